#!lua flags=allow-oom
-- The notes are written before the wrap-up time is over.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, not_wrapping_up.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]

local r, refused = check_session(responder_id, session)
if refused then return refuse(refused) end
local h = holding_of(r, chat_id)
if not h or h.kind ~= 'wrap' then return refuse('not_wrapping_up') end
cancel_timer('wrap:' .. responder_id .. ':' .. chat_id)
end_wrap_up(r, chat_id)
finish()
return responder_view(r)
