#!lua flags=allow-oom
-- The notes are written before the wrap-up time is over.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, not_wrapping_up.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
local h = H.holding_of(r, chat_id)
if not h or h.kind ~= 'wrap' then return H.refuse('not_wrapping_up') end
H.cancel_timer('wrap:' .. responder_id .. ':' .. chat_id)
H.end_wrap_up(r, chat_id)
H.finish()
return H.responder_view(r)
