#!lua flags=allow-oom
-- The conversation is over; the responder wraps up, and who is next in line is looked at at once.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, stale_fence.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]
local epoch, minted = num(ARGV[5]), num(ARGV[6]) -- the fence

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
local c = H.check_fence(responder_id, chat_id, epoch, minted)
if not c then return H.refuse('stale_fence') end
if c.state == 'active' then H.end_chat(c, 'completed', 'asked') end
H.finish()
return H.responder_view(r)
