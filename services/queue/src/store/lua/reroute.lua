#!lua flags=allow-oom
-- A supervisor lets those who meet one requirement serve chats that ask for another, for a time.
-- Returns ok; no_policy, policy_changed, wrong_state, too_many_reroutes.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local from = ARGV[4] -- the signature that chats ask for
local to = ARGV[5] -- the signature that is enough meanwhile
local lasts = num(ARGV[6]) -- milliseconds from now on; 0 ends it
local revision = num(ARGV[7])

if not P then return H.refuse('no_policy') end
H.by = by
if revision ~= L.revision then return H.refuse('policy_changed', str(L.revision)) end
local kept, known = {}, false
for one, other, till in string.gmatch(L.reroutes, '([^>;]+)>([^@]+)@(%d+)') do
  if one == from then known = true else kept[#kept + 1] = one .. '>' .. other .. '@' .. till end
end
if lasts == 0 then
  if not known then return H.refuse('wrong_state') end
  H.tell('reroute_ended', { reason = reason })
else
  if not known and #kept >= H.MAX_REROUTES then return H.refuse('too_many_reroutes') end
  kept[#kept + 1] = from .. '>' .. to .. '@' .. str(now + lasts)
  H.tell('rerouted', { till = now + lasts, reason = reason })
end
L.reroutes = table.concat(kept, ';')
H.arm_reroutes()
H.everyone = true
H.finish()
return H.done()
