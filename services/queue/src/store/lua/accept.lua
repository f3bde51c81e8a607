#!lua flags=allow-oom
-- The responder takes an offer: exactly one owner, with a new fence; everybody else loses it.
-- Returns ok with the assignment, and the handoff; not_signed_in, stale_session, offer_gone.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]
local number = num(ARGV[5]) -- which offer of the chat
local reply_handoff = ARGV[6] -- sealed bytes

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
local c = H.chat(chat_id)
if not c then return H.refuse('offer_gone') end
if c.state == 'active' and c.owner == responder_id and c.owner_offer == number then
  c.replays = c.replays + 1
  H.finish()
  return H.assignment(c)
end
local o = H.offer_to(c, responder_id)
if not o or o.number ~= number then return H.refuse('offer_gone') end

H.assign(r, c, number, reply_handoff)
H.finish()
return H.assignment(c)
