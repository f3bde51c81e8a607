#!lua flags=allow-oom
-- The responder goes; what is in their hands goes back to the line at once.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session.
local responder_id = ARGV[2]
local session = num(ARGV[3])

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
H.go_offline(r, 'asked')
H.finish()
return H.responder_view(r)
