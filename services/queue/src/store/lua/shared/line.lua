-- What commands have in common; the functions of domain/src/line.rs, under the same names.

-- The table of domain/src/lifecycle.rs, and the ledger that moves with it.
H.NEXT = {
  admit = { held = 'waiting' },
  offer = { waiting = 'offered', offered = 'offered' },
  last_offer_gone = { offered = 'waiting' },
  accept = { offered = 'active' },
  reclaim = { waiting = 'active', offered = 'active' },
  give_back = { active = 'waiting' },
  finish = { waiting = 'ended', offered = 'ended', active = 'ended' },
  reopen = { ended = 'waiting' },
}
function H.happen(c, happening, outcome)
  local to = H.NEXT[happening][c.state]
  if not to then return end
  local from_cell = c.state == 'ended' and c.outcome or c.state
  local to_cell = to == 'ended' and outcome or to
  if from_cell ~= 'held' then L[from_cell] = L[from_cell] - 1 end
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
  local wrap_up, cool_down = H.wrap_up_for(urgency), P.cool_down[urgency + 1]
  r.rested = math.max(r.rested, now) + math.floor(lasted * P.strain[urgency + 1] / 100)
  local h = H.holding_of(r, chat_id)
  if h and h.hard == 0 then r.hard_row = 0 end
  if wrap_up > 0 then
    if h then h.kind, h.called = 'wrap', 0 end
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
  -- An easier chat ends a row of hard ones, and whoever has room beside the notes may be asked for one again.
  if wrap_up == 0 then H.drop_holding(r, chat_id) else H.free(r.id) end
end

function H.end_chat(c, outcome, reason)
  H.rescind_all(c, 'chat_ended')
  local was_active = c.state == 'active'
  H.happen(c, 'finish', outcome)
  H.cancel_timer('away:' .. c.id)
  H.cancel_timer('abandon:' .. c.id)
  H.cancel_timer('step:' .. c.id)
  H.cancel_timer('retry:' .. c.id)
  H.cancel_timer('reply:' .. c.id)
  H.stop_overflow(c)
  H.delivery_done(c)
  H.set_timer('forget:' .. c.id, now + P.retention)
  c.version = c.version + 1
  c.away = 0
  c.recovering, c.reclaim = 0, 0
  c.shown = ''
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

-- The chat did not reach whoever it was given to. Once that was so often as the policy says, supervisors see it; it keeps
-- its place and is offered on. A policy that an older version packed has no such number.
function H.delivery_failed(c)
  c.failed = c.failed + 1
  if c.failing > 0 or c.failed < (P.failing_after or 5) then return end
  c.failing = now
  redis.call('ZADD', base .. 'failing', str(now), c.id)
  H.tell('delivery_failing', { chat = c.id, urgency = c.urgency, number = c.failed })
end

-- A conversation has begun, or the chat is over: what failed before does not count any more.
function H.delivery_done(c)
  if c.failing > 0 then redis.call('ZREM', base .. 'failing', c.id) end
  c.failed, c.failing = 0, 0
end

function H.give_back_offers(r, reason)
  local offered = {}
  for _, h in ipairs(r.holdings) do
    if h.kind == 'offer' then offered[#offered + 1] = h.chat end
  end
  for _, id in ipairs(offered) do
    local c = H.chat(id)
    H.rescind(c, H.offer_to(c, r.id).number, reason)
    if reason == 'responder_lost' then H.delivery_failed(c) end
    H.hunger(id)
  end
end

function H.return_chat(c, r, reason)
  H.happen(c, 'give_back')
  H.cancel_timer('reply:' .. c.id)
  c.fan_out = H.fan_out_for(c.urgency)
  c.returned = 1
  c.version = c.version + 1
  c.blobs.reply = ''
  local epoch, minted, silent = c.epoch, c.minted, c.engaged == 0
  c.owner, c.owner_offer, c.epoch, c.minted, c.since, c.engaged = '', 0, 0, 0, 0, 0
  if c.attested == 0 then H.set_timer('away:' .. c.id, now + P.away_after) end
  H.arm_next_step(c)
  if #P.partners > 0 then H.arm_overflow(c, false) end
  H.settle_chat(c)
  H.tell('returned', { chat = c.id, responder = r.id, epoch = epoch, minted = minted, reason = reason })
  if silent and (reason == 'responder_lost' or reason == 'no_reply') then H.delivery_failed(c) end
  H.drop_holding(r, c.id)
  H.hunger(c.id)
end

function H.go_offline(r, reason)
  local was_online = r.status ~= 'offline'
  r.status = 'offline'
  r.linked = 0
  r.version = r.version + 1
  if not was_online then return end
  r.left, r.break_since, r.shift_ending = now, 0, 0
  H.cancel_timer('shift:' .. r.id)
  redis.call('SREM', base .. 'here', r.id)
  H.cancel_timer('presence:' .. r.id)
  H.set_timer('gone:' .. r.id, now + P.retention)
  H.settle_responder(r)
  H.tell('signed_out', { responder = r.id, reason = reason })
  if P.min_on_shift > 0 and H.on_shift() + 1 == P.min_on_shift then
    H.tell('gate_closed', {})
    H.gate_shut = true
  end
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
  return c and c.token == token and c.state ~= 'held' and c or nil
end

function H.on_shift() return redis.call('SCARD', base .. 'here') end
function H.gate_open() return P.min_on_shift == 0 or H.on_shift() >= P.min_on_shift end

-- The stage of surge in force, or nil.
function H.surge_stage()
  if #P.surge == 0 then return nil end
  return P.surge[L.stage]
end

function H.fan_out_for(urgency)
  if urgency ~= H.IMMINENT then return 1 end
  local stage = H.surge_stage()
  return stage and stage.fan_out > 0 and stage.fan_out or P.fan_out
end

function H.wrap_up_for(urgency)
  local usual, stage = P.wrap_up[urgency + 1], H.surge_stage()
  if not stage or H.is_hard(urgency) then return usual end
  return math.floor(usual * stage.wrap_up / 100)
end

-- A new record, in the arguments' order of request, hold, restore and reassert.
function H.insert_chat(state, arrival, sequence)
  local chat_id, urgency = ARGV[2], num(ARGV[6])
  L.arrivals = math.max(L.arrivals, sequence)
  redis.call('SET', base .. 'request:' .. ARGV[3], chat_id)
  local c = {
    id = chat_id, record_key = base .. 'chat:' .. chat_id, raw = {}, known = H.CHAT,
    blobs = { handoff = ARGV[12] }, member = string.format('%016.0f', sequence) .. ':' .. chat_id, state = state,
    urgency = urgency, arrival = arrival, seq = sequence, version = 1, token = ARGV[5], key = ARGV[3],
    body = ARGV[4], replays = 0, attested = num(ARGV[11]), away = 0, erased = 0, steps = H.split_steps(ARGV[7]),
    step = 0, topics = ARGV[8], excluded = ARGV[9], fan_out = H.fan_out_for(urgency), shown = '', proposals = 0,
    partner = '', came_from = '', returned = 0, asked = {}, offers = {}, offers_made = 0, assigned = 0, owner = '',
    owner_offer = 0, epoch = 0, minted = 0, since = 0, engaged = 0, outcome = '', ended_at = 0, trace = ARGV[13],
    recovering = 0, reclaim = 0, failed = 0, failing = 0, subject = '', lane = '', score = '',
  }
  H.chats[chat_id] = c
  H.all_records[#H.all_records + 1] = c
  return c
end

-- A chat takes its place in the line.
function H.join_line(c)
  if c.attested == 0 then H.set_timer('away:' .. c.id, now + P.away_after) end
  if H.asks_for_somebody_absent(c) then return H.relax(c) end
  H.take_place(c)
end

function H.take_place(c)
  H.arm_next_step(c)
  H.settle_chat(c)
  H.hunger(c.id)
end

-- Whoever would like to meet somebody again does not wait for one who is not on shift.
function H.asks_for_somebody_absent(c)
  local only = string.match(c.steps[c.step + 1].signature, '^=([^=]+)=')
  if not only then return false end
  local r = H.responder(only)
  return not r or r.status == 'offline'
end

function H.relax(c)
  c.step = c.step + 1
  c.version = c.version + 1
  H.arm_next_step(c)
  H.settle_chat(c)
  H.tell('relaxed', { chat = c.id, number = c.step })
  H.hunger(c.id)
end

function H.stop_overflow(c)
  H.cancel_timer('overflow:' .. c.id)
  H.cancel_timer('proposal:' .. c.id)
  c.partner = ''
end

-- How waits compare with place times pace: the functions of domain/src/line/waits.rs.
function H.spread(urgency)
  local low, high = L['low' .. urgency], L['high' .. urgency]
  if high == 0 then return 1000, 50000 end
  return low, high
end

function H.pace() return L.hand_overs >= 5 and L.gap or 0 end

function H.place(c)
  if c.lane == '' then return 0 end
  if not c.place then c.place = num(redis.call('ZRANK', H.LANES.all, c.member) or -1) + 1 end
  return c.place
end

-- Exactly one owner, with a new fence; everybody else loses the offer.
function H.assign(r, c, number, reply_handoff)
  H.begin_term_if_moved()
  local others = {}
  for _, other in ipairs(c.offers) do
    if other.number ~= number then others[#others + 1] = other.number end
  end
  for _, other in ipairs(others) do H.rescind(c, other, 'taken') end
  H.cancel_timer('offer:' .. c.id .. ':' .. str(number))
  H.cancel_timer('away:' .. c.id)
  H.cancel_timer('retry:' .. c.id)
  H.cancel_timer('step:' .. c.id)
  H.stop_overflow(c)
  if P.first_reply > 0 then H.set_timer('reply:' .. c.id, now + P.first_reply) end
  if c.shown ~= '' then H.learn_wait(c) end
  H.happen(c, 'accept')
  c.offers = {}
  c.version = c.version + 1
  c.assigned = c.assigned + 1
  c.blobs.reply = reply_handoff
  c.reclaim = 0
  c.owner, c.owner_offer, c.since, c.engaged = r.id, number, now, 0
  c.epoch, c.minted = L.term * H.EPOCHS_PER_TERM + c.assigned, L.node
  local h = H.holding_of(r, c.id)
  h.kind = 'active'
  r.hard_row = r.hard_row + h.hard
  r.hard_shift = r.hard_shift + h.hard
  r.version = r.version + 1
  H.settle_responder(r)
  H.hand_over()
  H.settle_chat(c)
  H.tell('accepted', {
    chat = c.id, responder = r.id, urgency = c.urgency, offer = number, epoch = c.epoch, minted = c.minted,
  })
end

function H.arm_next_step(c)
  local after = c.steps[c.step + 2]
  if after then H.set_timer('step:' .. c.id, c.arrival + after.after) end
end

function H.touch(c)
  if c.attested == 1 or (c.state ~= 'waiting' and c.state ~= 'offered') then return end
  H.set_timer('away:' .. c.id, now + P.away_after)
  if c.away == 1 then
    local recovered = c.recovering == 1 and now >= H.recovers_at()
    if recovered then c.recovering = 0 end
    H.cancel_timer('abandon:' .. c.id)
    c.away = 0
    c.version = c.version + 1
    H.settle_chat(c)
    if recovered and #P.partners > 0 then H.arm_overflow(c, false) end
    -- The hold may have begun again, and its end have passed by, while they were away.
    if c.recovering == 1 then H.set_timer('recover:line', H.recovers_at()) end
    H.tell('back', { chat = c.id })
    H.hunger(c.id)
  end
end

H.TERM_EPOCH_MS = 1577836800000 -- 2020-01-01
H.EPOCHS_PER_TERM = 1048576 -- 2^20
H.TICKER_LEASE_MS = 1000

-- A line that finds itself on another node may have forgotten epochs that were minted and events that were told: it begins
-- a term above every older one.
function H.begin_term_if_moved()
  local node = H.this_node()
  if not H.has_moved(node) then return end
  -- The very first term may be what was lost; in a new life the hold has begun already.
  if L.term ~= 0 or now >= H.recovers_at() then L.recovering = now end
  H.begin_term(node, 0)
end

function H.this_node()
  if not H.found_node then
    local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    H.found_node = tonumber(string.sub(replid, 1, 8), 16)
  end
  return H.found_node
end

-- The line finds itself on another node than the one that minted last.
function H.has_moved(node) return L.term == 0 or L.node ~= node end

-- A new term, above every older one and above `least`.
function H.begin_term(node, least)
  local since_2020 = math.floor(math.max(L.last - H.TERM_EPOCH_MS, 0) / 1000)
  L.term = math.max(L.term, least, since_2020) + 1
  L.node = node
end

-- Until then nothing that comes back is offered. A policy that an older version packed has no such number.
function H.recovers_at() return L.recovering + (P.recovery_hold or 15000) end

-- How fast the line moves: the gap between hand-overs, each new one counting for an eighth.
function H.hand_over()
  H.prefetch({ 'hand_overs', 'last_hand_over', 'gap' })
  if L.hand_overs > 0 then
    local gap = now - L.last_hand_over
    L.gap = L.hand_overs == 1 and gap or math.floor((L.gap * 7 + gap) / 8)
  end
  L.last_hand_over = now
  L.hand_overs = L.hand_overs + 1
end

-- The answer to a visitor; after `finish`.
function H.view(c, replay)
  local place = H.place(c)
  H.prefetch({ 'hand_overs', 'gap', 'low' .. c.urgency, 'high' .. c.urgency })
  local low, high = H.spread(c.urgency)
  return H.reply(table.concat({
    c.id, c.state, str(c.urgency), str(c.version), str(place), str(c.away), str(c.arrival),
    c.outcome == '' and '-' or c.outcome, replay and '1' or '0', str(now), str(H.pace()), str(low), str(high),
    c.state == 'ended' and c.partner ~= '' and c.partner or '-', str(c.seq), L.generation, str(L.term),
  }, ' '))
end

-- The answer to an accept; after `finish`.
function H.assignment(c)
  local handoff = redis.call('HGET', c.record_key, 'handoff') or ''
  return H.reply(table.concat({
    c.id, str(c.epoch), str(c.minted), str(c.urgency), str(H.responder(c.owner).version),
    c.trace == '' and '-' or c.trace, str(c.owner_offer), L.generation, str(now),
  }, ' '), handoff)
end
