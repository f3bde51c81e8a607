#!lua flags=allow-oom
-- The responder hands the chat on: back to the line, at its old place and with a head start.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, stale_fence.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]
local epoch, minted = num(ARGV[5]), num(ARGV[6]) -- the fence

local r, refused = check_session(responder_id, session)
if refused then return refuse(refused) end
local c = check_fence(responder_id, chat_id, epoch, minted)
if not c or c.state ~= 'active' then return refuse('stale_fence') end
remember_asked(c, responder_id)
return_chat(c, r, 'transfer')
finish()
return responder_view(r)
