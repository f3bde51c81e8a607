#!lua flags=allow-oom
-- The responder of a chat asks a supervisor to come; the board shows it until the chat has left these hands.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, stale_fence.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]
local epoch, minted = num(ARGV[5]), num(ARGV[6]) -- the fence

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
local c = H.check_fence(responder_id, chat_id, epoch, minted)
if not c or c.state ~= 'active' then return H.refuse('stale_fence') end
local h = H.holding_of(r, chat_id)
if h.called == 0 then h.called = now end -- whoever calls again has been calling since the first time
r.version = r.version + 1
H.tell('supervisor_called', {
  chat = chat_id, responder = responder_id, urgency = c.urgency, epoch = epoch, minted = minted,
})
H.finish()
return H.responder_view(r)
