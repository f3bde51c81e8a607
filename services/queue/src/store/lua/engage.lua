#!lua flags=allow-oom
-- The responder wrote for the first time.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, stale_fence.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]
local epoch, minted = num(ARGV[5]), num(ARGV[6]) -- the fence

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
local c = H.check_fence(responder_id, chat_id, epoch, minted)
if not c or c.state ~= 'active' then return H.refuse('stale_fence') end
H.cancel_timer('reply:' .. chat_id)
if c.engaged == 0 then
  H.delivery_done(c)
  c.engaged = now
  c.version = c.version + 1
  H.tell('engaged', { chat = chat_id, responder = responder_id, epoch = epoch, minted = minted })
end
H.finish()
return H.responder_view(r)
