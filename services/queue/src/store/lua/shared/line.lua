-- What commands have in common; the functions of domain/src/line.rs, under the same names.

-- The table of domain/src/lifecycle.rs, and the ledger that moves with it.
H.NEXT = {
  offer = { waiting = 'offered', offered = 'offered' },
  last_offer_gone = { offered = 'waiting' },
  accept = { offered = 'active' },
  give_back = { active = 'waiting' },
  finish = { waiting = 'ended', offered = 'ended', active = 'ended' },
  reopen = { ended = 'waiting' },
}
function H.happen(c, happening, outcome)
  local to = H.NEXT[happening][c.state]
  if not to then return end
  local from_cell = c.state == 'ended' and c.outcome or c.state
  local to_cell = to == 'ended' and outcome or to
  L[from_cell] = L[from_cell] - 1
  L[to_cell] = L[to_cell] + 1
  c.state = to
  c.outcome = outcome or ''
  c.ended_at = outcome and now or 0
end

function H.free(id) H.freed[#H.freed + 1] = id end
function H.hunger(id) H.hungry[#H.hungry + 1] = id end

function H.drop_holding(r, chat_id)
  for i = #r.holdings, 1, -1 do
    if r.holdings[i].chat == chat_id then table.remove(r.holdings, i) end
  end
  r.version = r.version + 1
  H.settle_responder(r)
  if r.status == 'leaving' and #r.holdings == 0 then
    H.go_offline(r, 'asked')
  else
    H.free(r.id)
  end
end

-- Takes an open offer back; returns the responder it was made to, or nil.
function H.withdraw(c, number)
  local gone
  for i, o in ipairs(c.offers) do
    if o.number == number then
      gone = o
      table.remove(c.offers, i)
      break
    end
  end
  if not gone then return nil end
  H.cancel_timer('offer:' .. c.id .. ':' .. str(number))
  if #c.offers == 0 then H.happen(c, 'last_offer_gone') end
  H.settle_chat(c)
  local r = H.responder(gone.responder)
  H.drop_holding(r, c.id)
  return r
end

function H.rescind(c, number, reason)
  local r = H.withdraw(c, number)
  if r then H.tell('rescinded', { chat = c.id, responder = r.id, offer = number, reason = reason }) end
end

function H.rescind_all(c, reason)
  local open = {}
  for i, o in ipairs(c.offers) do open[i] = o.number end
  for _, number in ipairs(open) do H.rescind(c, number, reason) end
end

function H.tell_status(r, reason)
  H.tell('status_changed', { responder = r.id, status = r.status, reason = reason })
end

function H.wind_down(r, chat_id, urgency, lasted)
  local wrap_up, cool_down = P.wrap_up[urgency + 1], P.cool_down[urgency + 1]
  r.rested = math.max(r.rested, now) + math.floor(lasted * P.strain[urgency + 1] / 100)
  if wrap_up > 0 then
    local h = H.holding_of(r, chat_id)
    if h then h.kind = 'wrap' end
    r.version = r.version + 1
    H.set_timer('wrap:' .. r.id .. ':' .. chat_id, now + wrap_up)
  end
  local till = now + cool_down
  if cool_down > 0 and till > r.cooling then
    r.cooling = till
    H.set_timer('cool:' .. r.id, till)
    H.tell('cooling_down', { responder = r.id, till = till })
  end
  H.settle_responder(r)
  if wrap_up == 0 then H.drop_holding(r, chat_id) end
end

function H.end_chat(c, outcome, reason)
  H.rescind_all(c, 'chat_ended')
  local was_active = c.state == 'active'
  H.happen(c, 'finish', outcome)
  H.cancel_timer('away:' .. c.id)
  H.cancel_timer('abandon:' .. c.id)
  H.cancel_timer('step:' .. c.id)
  H.cancel_timer('retry:' .. c.id)
  H.set_timer('forget:' .. c.id, now + P.retention)
  c.version = c.version + 1
  c.away = 0
  if outcome ~= 'abandoned' then c.blobs.handoff = '' end
  c.blobs.reply = ''
  H.settle_chat(c)
  local owned = c.owner ~= ''
  H.tell('ended', {
    chat = c.id, responder = owned and c.owner or nil, urgency = c.urgency, epoch = owned and c.epoch or nil,
    minted = c.minted, outcome = outcome, reason = reason,
  })
  if was_active then H.wind_down(H.responder(c.owner), c.id, c.urgency, now - c.since) end
end

function H.remember_asked(c, responder_id)
  for i = #c.asked, 1, -1 do
    if c.asked[i].responder == responder_id then table.remove(c.asked, i) end
  end
  c.asked[#c.asked + 1] = { responder = responder_id, at = now }
  if #c.asked > H.MAX_ASKED then table.remove(c.asked, 1) end
  H.set_timer('retry:' .. c.id, now + P.min_back_off)
end

function H.give_back_offers(r, reason)
  local offered = {}
  for _, h in ipairs(r.holdings) do
    if h.kind == 'offer' then offered[#offered + 1] = h.chat end
  end
  for _, id in ipairs(offered) do
    local c = H.chat(id)
    H.rescind(c, H.offer_to(c, r.id).number, reason)
    H.hunger(id)
  end
end

function H.return_chat(c, r, reason)
  H.happen(c, 'give_back')
  c.returned = 1
  c.version = c.version + 1
  c.blobs.reply = ''
  local epoch, minted = c.epoch, c.minted
  c.owner, c.owner_offer, c.epoch, c.minted, c.since, c.engaged = '', 0, 0, 0, 0, 0
  if c.attested == 0 then H.set_timer('away:' .. c.id, now + P.away_after) end
  H.arm_next_step(c)
  H.settle_chat(c)
  H.tell('returned', { chat = c.id, responder = r.id, epoch = epoch, minted = minted, reason = reason })
  H.drop_holding(r, c.id)
  H.hunger(c.id)
end

function H.go_offline(r, reason)
  local was_online = r.status ~= 'offline'
  r.status = 'offline'
  r.linked = 0
  r.version = r.version + 1
  if not was_online then return end
  redis.call('SREM', base .. 'here', r.id)
  H.cancel_timer('presence:' .. r.id)
  H.set_timer('gone:' .. r.id, now + P.retention)
  H.settle_responder(r)
  H.tell('signed_out', { responder = r.id, reason = reason })
  H.give_back_offers(r, reason)
  local held = {}
  for i, h in ipairs(r.holdings) do held[i] = h end
  for _, h in ipairs(held) do
    if h.kind == 'active' then
      H.return_chat(H.chat(h.chat), r, reason)
    elseif h.kind == 'wrap' then
      H.cancel_timer('wrap:' .. r.id .. ':' .. h.chat)
      H.drop_holding(r, h.chat)
    end
  end
end

function H.end_wrap_up(r, chat_id)
  local h = H.holding_of(r, chat_id)
  if h and h.kind == 'wrap' then
    H.tell('wrapped_up', { chat = chat_id, responder = r.id })
    H.drop_holding(r, chat_id)
  end
end

-- The visitor's own chat, or nil: a wrong token and an unknown chat look the same.
function H.own(chat_id, token)
  local c = H.chat(chat_id)
  return c and c.token == token and c or nil
end

function H.arm_next_step(c)
  local after = c.steps[c.step + 2]
  if after then H.set_timer('step:' .. c.id, c.arrival + after.after) end
end

function H.touch(c)
  if c.attested == 1 or (c.state ~= 'waiting' and c.state ~= 'offered') then return end
  H.set_timer('away:' .. c.id, now + P.away_after)
  if c.away == 1 then
    H.cancel_timer('abandon:' .. c.id)
    c.away = 0
    c.version = c.version + 1
    H.settle_chat(c)
    H.tell('back', { chat = c.id })
    H.hunger(c.id)
  end
end

H.TERM_EPOCH_MS = 1577836800000 -- 2020-01-01
H.EPOCHS_PER_TERM = 1048576 -- 2^20
H.TICKER_LEASE_MS = 1000

-- A line that finds itself on another node may have forgotten epochs: it begins a term above every older one.
function H.begin_term_if_moved()
  local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  local node = tonumber(string.sub(replid, 1, 8), 16)
  if L.term == 0 or L.node ~= node then
    L.term = math.max(L.term, math.floor(math.max(L.last - H.TERM_EPOCH_MS, 0) / 1000)) + 1
    L.node = node
  end
end

-- How fast the line moves: the gap between hand-overs, each new one counting for an eighth.
function H.hand_over()
  if L.hand_overs > 0 then
    local gap = now - L.last_hand_over
    L.gap = L.hand_overs == 1 and gap or math.floor((L.gap * 7 + gap) / 8)
  end
  L.last_hand_over = now
  L.hand_overs = L.hand_overs + 1
end

-- The answer to a visitor; after `finish`.
function H.view(c, replay)
  local place = 0
  if c.lane ~= '' then place = num(redis.call('ZRANK', H.LANES.all, c.member) or -1) + 1 end
  local pace = L.hand_overs >= 5 and L.gap or 0
  return H.reply(table.concat({
    c.id, c.state, str(c.urgency), str(c.version), str(place), str(c.away), str(c.arrival),
    c.outcome == '' and '-' or c.outcome, replay and '1' or '0', str(now), str(pace),
  }, ' '))
end

-- The answer to an accept; after `finish`.
function H.assignment(c)
  local handoff = redis.call('HGET', c.record_key, 'handoff') or ''
  return H.reply(table.concat({
    c.id, str(c.epoch), str(c.minted), str(c.urgency), str(H.responder(c.owner).version),
    c.trace == '' and '-' or c.trace,
  }, ' '), handoff)
end
