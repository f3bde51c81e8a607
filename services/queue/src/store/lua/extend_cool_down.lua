#!lua flags=allow-oom
-- The responder needs a cool-down, or a longer one; a shorter one changes nothing.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local lasts = num(ARGV[4]) -- milliseconds from now on

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
H.extend_cool_down(r, lasts, 'asked')
H.finish()
return H.responder_view(r)
