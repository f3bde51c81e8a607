#!lua flags=allow-oom
-- A supervisor puts a block in force that somebody else proposed: its time counts from now on.
-- Returns ok; no_policy, unknown_block, same_person, wrong_state, too_many_blocks.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local id = ARGV[4] -- which block

if not P then return H.refuse('no_policy') end
H.by = by
local b = H.block(id)
if not b then return H.refuse('unknown_block') end
if b.by == by then return H.refuse('same_person') end
if b.confirmed_by == by then
  H.finish()
  return H.done()
end
if b.confirmed_by ~= '' then return H.refuse('wrong_state') end
if now >= b.open_till then return H.refuse('unknown_block') end
local confirmed = redis.call('ZCARD', base .. 'blocks') - redis.call('ZCARD', base .. 'proposed')
if confirmed >= H.MAX_BLOCKS then return H.refuse('too_many_blocks') end

b.confirmed_by, b.till = by, now + b.lasts
redis.call('ZREM', base .. 'proposed', id)
H.settle_block('block_confirmed', b, reason)
H.finish()
return H.done()
