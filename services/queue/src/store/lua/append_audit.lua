#!lua
-- Appends to the helpline's audit, if it stands where the caller saw it: each decision is in it once, whoever is faster.
-- Returns 1, or 0 when it stands elsewhere. It touches nothing of the line, and takes no memory that the line may need.
-- KEYS[1]  the helpline's base key hf:{helpline}:line; the audit's keys are derived from it
local audit = string.sub(KEYS[1], 1, -5) .. 'audit:'
local was_number = ARGV[1] -- of the last entry; 0 before the first
local was_hash = ARGV[2] -- its hash, 43 letters
local was_cursor = ARGV[3] -- after the last event that was read for it; '' before the first
local hash = ARGV[4] -- of the last entry from now on
local first = ARGV[5] -- the first entry that is kept from now on
local cursor = ARGV[6] -- after the last event that was read
local name_ms = ARGV[7] -- names are kept so long, in milliseconds
local counts = { tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]) } -- entries, names, names that go
-- ARGV[11] on: text and seal of each entry; chat and name of each name; each chat whose name goes

local function is(text, letters, least, most)
  return text and #text >= least and #text <= most and not string.find(text, letters)
end
for i = 1, 3 do
  if not counts[i] or counts[i] < 0 or counts[i] > 1000 or counts[i] % 1 ~= 0 then error('a count is none') end
end
local whole = is(was_number, '%D', 1, 16) and is(first, '%D', 1, 16) and is(name_ms, '%D', 1, 16)
local hashes = is(was_hash, '[^%w_-]', 43, 43) and is(hash, '[^%w_-]', 43, 43)
local cursors = is(was_cursor, '[^%w._-]', 0, 128) and is(cursor, '[^%w._-]', 1, 128)
if not whole or not hashes or not cursors then error('an argument is not of its kind') end
if #ARGV ~= 10 + 2 * counts[1] + 2 * counts[2] + counts[3] then error('an argument is missing') end
for i = 11, #ARGV do
  if not is(ARGV[i], '[^ -~]', 0, 2048) then error('argument ' .. i .. ' is not text') end
end

local held = redis.call('HMGET', audit .. 'head', 'number', 'hash', 'cursor')
local none = string.rep('A', 43)
if (held[1] or '0') ~= was_number or (held[2] or none) ~= was_hash or (held[3] or '') ~= was_cursor then return 0 end

local number, at = tonumber(was_number), 11
for _ = 1, counts[1] do
  number = number + 1
  redis.call('XADD', audit .. 'entries', 'MINID', '=', first .. '-0', string.format('%d-0', number),
    'e', ARGV[at], 's', ARGV[at + 1])
  at = at + 2
end
for _ = 1, counts[2] do
  redis.call('SET', audit .. 'name:' .. ARGV[at], ARGV[at + 1], 'PX', name_ms)
  at = at + 2
end
for i = at, #ARGV do redis.call('DEL', audit .. 'name:' .. ARGV[i]) end
redis.call('HSET', audit .. 'head', 'number', string.format('%d', number), 'hash', hash, 'cursor', cursor, 'first', first)
return 1
