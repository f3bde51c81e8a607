#!lua flags=allow-oom
-- A chat that the store has lost, or has got back from a ticket, is in its responder's hands again, under its old fence.
-- Returns ok with the assignment, and the handoff; not_signed_in, stale_session, no_policy, chat_ended, stale_fence,
-- policy_changed.
local chat_id = ARGV[2]
local request_key = ARGV[3] -- digest of principal and request id
-- ARGV[4] to ARGV[9], ARGV[11] to ARGV[13] as in request.lua, sealed when the chat was accepted
local revision = num(ARGV[10])
-- ARGV[14] to ARGV[28] what was sealed, as in restore.lua
local sealed = H.sealed()
local responder_id = ARGV[29]
local session = num(ARGV[30])
local number = num(ARGV[31]) -- the offer that was accepted
local epoch = num(ARGV[32])
local minted = num(ARGV[33])
local reply_handoff = ARGV[34] -- sealed bytes

local assigned = epoch % H.EPOCHS_PER_TERM -- which assignment of the chat it is
local term = math.max(sealed.term, math.floor(epoch / H.EPOCHS_PER_TERM))

-- Whether the assignment is newer than what brought the chat back; of a chat that never was away, whether it is newer than
-- what the line knows: then the accept was lost with the end of the line.
local function reclaims(c)
  local first = c.reclaim > 0 and c.reclaim or c.assigned + 1
  return (c.state == 'waiting' or c.state == 'offered') and assigned >= first
end

-- What was offered while the line did not know of a chat in these hands goes on to others, the newest first.
local function make_room(r)
  while true do
    local load, offer = 0, nil
    for _, h in ipairs(r.holdings) do
      if h.beyond == 0 then
        load = load + h.weight
        if h.kind == 'offer' then offer = h.chat end
      end
    end
    if not offer or load <= r.capacity then return end
    H.rescind(H.chat(offer), H.offer_to(H.chat(offer), r.id).number, 'busy')
    H.hunger(offer)
  end
end

local function reclaim(c, r)
  local open = {}
  for i, o in ipairs(c.offers) do open[i] = o end
  for _, o in ipairs(open) do
    if o.responder == r.id then
      H.cancel_timer('offer:' .. c.id .. ':' .. str(o.number))
    else
      H.rescind(c, o.number, 'taken')
    end
  end
  for _, timer in ipairs({ 'away:', 'abandon:', 'retry:', 'step:' }) do H.cancel_timer(timer .. c.id) end
  H.stop_overflow(c)
  H.delivery_done(c)
  H.happen(c, 'reclaim')
  c.offers, c.away, c.recovering, c.reclaim, c.shown = {}, 0, 0, 0, ''
  c.version = c.version + 1
  c.assigned = assigned
  c.blobs.reply = reply_handoff
  c.owner, c.owner_offer, c.epoch, c.minted = r.id, number, epoch, minted
  c.since, c.engaged = math.min(sealed.issued, L.recovering), now
  for i = #r.holdings, 1, -1 do
    if r.holdings[i].chat == c.id then table.remove(r.holdings, i) end
  end
  local hard = H.is_hard(c.urgency) and 1 or 0
  local weight = H.weight_in(r, c.urgency)
  r.holdings[#r.holdings + 1] = {
    kind = 'active', chat = c.id, weight = weight, hard = hard, beyond = 0, called = 0,
  }
  r.hard_row = r.hard_row + hard
  r.hard_shift = r.hard_shift + hard
  r.version = r.version + 1
  -- It may weigh less in hand than it did on offer.
  H.free(r.id)
  H.settle_responder(r)
  H.settle_chat(c)
  make_room(r)
  H.tell('reclaimed', {
    chat = c.id, responder = r.id, urgency = c.urgency, offer = number, epoch = epoch, minted = minted,
  })
end

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
if not P then return H.refuse('no_policy') end
local node = H.this_node()
local c = H.chat(chat_id)
if c then
  if c.state == 'ended' then return H.refuse('chat_ended', c.outcome) end
  if c.owner == responder_id and c.epoch == epoch and c.minted == minted then
    c.replays = c.replays + 1
    H.finish()
    return H.assignment(c)
  end
  if not reclaims(c) then return H.refuse('stale_fence') end
  H.rise_above(sealed, node, term)
else
  if revision ~= L.revision then return H.refuse('policy_changed', str(L.revision)) end
  local known = redis.call('EXISTS', base .. 'request:' .. request_key) == 1
  if known or not H.may_have_lost(sealed, node) then return H.refuse('stale_fence') end
  c = H.readmit(sealed, node, term)
end
reclaim(c, r)
H.finish()
return H.assignment(c)
