#!lua flags=allow-oom
-- A supervisor gives a responder a cool-down, or a longer one; a shorter one changes nothing.
-- Returns ok; no_policy, not_signed_in.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local responder_id = ARGV[4]
local lasts = num(ARGV[5]) -- milliseconds from now on

if not P then return H.refuse('no_policy') end
H.by = by
local r, refused = H.online(responder_id)
if refused then return H.refuse(refused) end
H.extend_cool_down(r, lasts, reason)
H.finish()
return H.done()
