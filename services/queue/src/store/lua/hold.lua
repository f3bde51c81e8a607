#!lua flags=allow-oom
-- Keeps a partner's chat until the partner has let go of it.
-- Returns ok; no_policy, not_taken, policy_changed.
local chat_id = ARGV[2]
local request_key = ARGV[3] -- the partner's digest of principal and request id
-- ARGV[4] to ARGV[13] as in request.lua
local revision = num(ARGV[10])
local from = ARGV[14] -- the partner helpline
local number = ARGV[15] -- which of the partner's proposals of this chat
local age = num(ARGV[16]) -- how long the visitor has waited, in milliseconds

if not P then return H.refuse('no_policy') end
local came_from = from .. '@' .. number
local c = H.chat(chat_id)
if c then
  if c.came_from ~= came_from then return H.refuse('not_taken') end
  H.finish()
  return H.done()
end
if revision ~= L.revision then return H.refuse('policy_changed', str(L.revision)) end
local known = false
for _, partner in ipairs(P.takes_from) do known = known or partner == from end
local room = L.waiting + L.offered < P.takes_at_most and L.stage == 0
local free = redis.call('EXISTS', base .. 'request:' .. request_key) == 0
if not (known and room and free and H.gate_open()) then return H.refuse('not_taken') end

c = H.insert_chat('held', math.max(now - age, 0), L.arrivals + 1)
c.came_from = came_from
H.set_timer('hold:' .. chat_id, now + H.ASK_AGAIN)
H.tell_held('held', c)
H.finish()
return H.done()
