#!lua flags=allow-oom
-- The responder's device is alive: presence is renewed.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session.
local responder_id = ARGV[2]
local session = num(ARGV[3])

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
H.set_timer('presence:' .. responder_id, now + P.presence_lease)
H.finish()
return H.responder_view(r)
