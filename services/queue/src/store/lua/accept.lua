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

H.begin_term_if_moved()
local others = {}
for _, other in ipairs(c.offers) do
  if other.number ~= number then others[#others + 1] = other.number end
end
for _, other in ipairs(others) do H.rescind(c, other, 'taken') end
H.cancel_timer('offer:' .. chat_id .. ':' .. str(number))
H.cancel_timer('away:' .. chat_id)
H.cancel_timer('retry:' .. chat_id)
H.cancel_timer('step:' .. chat_id)
H.happen(c, 'accept')
c.offers = {}
c.version = c.version + 1
c.assigned = c.assigned + 1
c.blobs.reply = reply_handoff
c.owner, c.owner_offer, c.since, c.engaged = responder_id, number, now, 0
c.epoch, c.minted = L.term * H.EPOCHS_PER_TERM + c.assigned, L.node
H.holding_of(r, chat_id).kind = 'active'
r.version = r.version + 1
H.hand_over()
H.settle_chat(c)
H.tell('accepted', {
  chat = chat_id, responder = responder_id, urgency = c.urgency, offer = number, epoch = c.epoch, minted = c.minted,
})
H.finish()
return H.assignment(c)
