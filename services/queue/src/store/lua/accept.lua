#!lua flags=allow-oom
-- The responder takes an offer: exactly one owner, with a new fence; everybody else loses it.
-- Returns ok with the assignment, and the handoff; not_signed_in, stale_session, offer_gone.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]
local number = num(ARGV[5]) -- which offer of the chat
local reply_handoff = ARGV[6] -- sealed bytes

local r, refused = check_session(responder_id, session)
if refused then return refuse(refused) end
local c = chat(chat_id)
if not c then return refuse('offer_gone') end
if c.state == 'active' and c.owner == responder_id and c.owner_offer == number then
  c.replays = c.replays + 1
  finish()
  return assignment(c)
end
local o = offer_to(c, responder_id)
if not o or o.number ~= number then return refuse('offer_gone') end

begin_term_if_moved()
local others = {}
for _, other in ipairs(c.offers) do
  if other.number ~= number then others[#others + 1] = other.number end
end
for _, other in ipairs(others) do rescind(c, other, 'taken') end
cancel_timer('offer:' .. chat_id .. ':' .. str(number))
cancel_timer('away:' .. chat_id)
cancel_timer('retry:' .. chat_id)
happen(c, 'accept')
c.offers = {}
c.version = c.version + 1
c.assigned = c.assigned + 1
c.blobs.reply = reply_handoff
c.owner, c.owner_offer, c.since, c.engaged = responder_id, number, now, 0
c.epoch, c.minted = L.term * EPOCHS_PER_TERM + c.assigned, L.node
holding_of(r, chat_id).kind = 'active'
r.version = r.version + 1
hand_over()
settle_chat(c)
tell('accepted', {
  chat = chat_id, responder = responder_id, urgency = c.urgency, offer = number, epoch = c.epoch, minted = c.minted,
})
finish()
return assignment(c)
