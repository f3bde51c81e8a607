#!lua flags=allow-oom
-- A supervisor proposes to block whoever a chat is of; it changes nothing for them until somebody else confirms it.
-- Returns ok; no_policy, unknown_chat, wrong_state, already_blocked, too_many_blocks.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local id = ARGV[4] -- what the block is called
local chat_id = ARGV[5]
local lasts = num(ARGV[6]) -- how long it is in force once it is confirmed, in milliseconds
local open = num(ARGV[7]) -- how long it may be confirmed, in milliseconds

if not P then return H.refuse('no_policy') end
H.by = by
local known = H.block(id)
if known then
  if known.by ~= by or known.chat ~= chat_id then return H.refuse('already_blocked', id) end
  H.finish()
  return H.done()
end
local c = H.chat(chat_id)
if not c or c.state == 'held' then return H.refuse('unknown_chat') end
if c.erased == 1 then return H.refuse('wrong_state') end
local whom = H.whom(c)
local other = H.block_of(whom)
if other then return H.refuse('already_blocked', other) end
if redis.call('ZCARD', base .. 'proposed') >= H.MAX_BLOCK_PROPOSALS then return H.refuse('too_many_blocks') end

local b = {
  id = id, record_key = base .. 'block:' .. id, raw = {}, known = H.BLOCK, blobs = {}, whom = whom,
  chat = chat_id, by = by, reason = reason, lasts = lasts, open_till = now + open, confirmed_by = '', till = 0,
}
H.all_records[#H.all_records + 1] = b
redis.call('HSET', base .. 'blocked', whom, id)
redis.call('ZADD', base .. 'blocks', 0, id)
redis.call('ZADD', base .. 'proposed', 0, id)
H.settle_block('block_proposed', b, reason)
H.finish()
return H.done()
