#!lua flags=allow-oom
-- A supervisor signs a responder out; what is in their hands goes back to the line.
-- Returns ok; no_policy, not_signed_in.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local responder_id = ARGV[4]

if not P then return H.refuse('no_policy') end
H.by = by
local r, refused = H.online(responder_id)
if refused then return H.refuse(refused) end
H.go_offline(r, reason)
H.finish()
return H.done()
