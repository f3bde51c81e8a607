-- What few commands need; the functions of domain/src/line.rs and what is beside it, under the same names.
-- Another urgency: another place, and for hard chats another toll on whoever has it in hand.
function H.change_urgency(c, urgency, reason)
  c.urgency = urgency
  c.fan_out = H.fan_out_for(urgency)
  c.version = c.version + 1
  H.settle_chat(c)
  H.tell('triaged', { chat = c.id, urgency = urgency, reason = reason })
  if H.is_hard(urgency) then H.grow_hard(c) end
  if c.state == 'waiting' or c.state == 'offered' then
    if #P.partners > 0 then H.arm_overflow(c, false) end
    H.hunger(c.id)
  end
end

function H.grow_hard(c)
  local hands = {}
  for i, o in ipairs(c.offers) do hands[i] = o.responder end
  if c.state == 'active' then hands[#hands + 1] = c.owner end
  for _, id in ipairs(hands) do
    local r = H.responder(id)
    local h = H.holding_of(r, c.id)
    if h and h.hard == 0 then
      h.hard = 1
      if h.kind == 'active' then
        r.hard_row = r.hard_row + 1
        r.hard_shift = r.hard_shift + 1
      end
    end
    H.settle_responder(r)
  end
end

-- Overflow: the functions of domain/src/line/partners.rs, under the same names.
function H.arm_overflow(c, at_once)
  if #P.partners == 0 or c.came_from ~= '' or c.partner ~= '' or c.recovering == 1 then return end
  at_once = at_once or not H.gate_open()
  local after = P.overflow_after[c.urgency + 1]
  if not at_once and after == 0 then return end
  local due, name = at_once and now or c.arrival + after, 'overflow:' .. c.id
  H.set_timer(name, math.min(H.timer_at(name) or due, due))
end

function H.hasten_overflow()
  H.apply_moves(H.LANES)
  for _, member in ipairs(redis.call('ZRANGE', H.LANES.all, 0, H.SWEEP - 1)) do
    H.arm_overflow(H.chat(string.sub(member, 18)), true)
  end
end

function H.proposal_refused(c, reason)
  H.cancel_timer('proposal:' .. c.id)
  local partner = c.partner
  c.partner = ''
  local all_asked = c.proposals % math.max(#P.partners, 1) == 0
  H.set_timer('overflow:' .. c.id, all_asked and now + P.overflow_retry or now)
  H.tell('overflow_refused', {
    chat = c.id, partner = partner ~= '' and partner or nil, number = c.proposals, reason = reason,
  })
end

function H.tell_held(kind, c)
  local from, number = string.match(c.came_from, '^(.*)@(%d+)$')
  H.tell(kind, { chat = c.id, urgency = c.urgency, partner = from, number = num(number) })
end

-- After `finish`: the range that is shown to a chat which was not offered at once is remembered.
function H.show_wait(c)
  if #c.offers > 0 then return end
  local place, pace = H.place(c), H.pace()
  if place == 0 or pace == 0 then return end
  local low, high = H.spread(c.urgency)
  local middle = math.min(place * pace, 2592000000)
  local shown = str(math.floor(middle * low / 10000)) .. '-' .. str(math.floor(middle * high / 10000))
  redis.call('HSET', c.record_key, 'shown', shown)
end

function H.learn_wait(c)
  local from, to = string.match(c.shown, '^(%d+)-(%d+)$')
  if not from then return end
  c.shown = ''
  from, to = num(from), num(to)
  local waited = now - c.arrival
  local low, high = H.spread(c.urgency)
  L.waits_shown = L.waits_shown + 1
  if waited >= from and waited <= to then L.waits_inside = L.waits_inside + 1 end
  low = waited < from and low - math.floor(low * 23 / 100) or low + math.floor(low * 2 / 100)
  high = waited > to and high + math.floor(high * 23 / 100) or high - math.floor(high * 2 / 100)
  L['low' .. c.urgency] = math.min(math.max(low, 100), 50000)
  L['high' .. c.urgency] = math.min(math.max(high, 1000), 500000)
end

function H.become_ready(r, reason)
  if r.break_since > 0 and now - r.break_since >= P.hard_rest then r.hard_row = 0 end
  r.break_since = 0
  r.status = 'ready'
  r.version = r.version + 1
  H.settle_responder(r)
  H.tell_status(r, reason)
  H.free(r.id)
end

-- A cool-down can be made longer, never shorter.
function H.extend_cool_down(r, lasts, reason)
  local till = now + lasts
  if lasts == 0 or till <= r.cooling then return end
  r.cooling = till
  r.version = r.version + 1
  H.set_timer('cool:' .. r.id, till)
  H.settle_responder(r)
  H.tell('cooling_down', { responder = r.id, till = till, reason = reason })
  H.give_back_offers(r, 'asked')
end

function H.not_responding(r, reason)
  if r.status ~= 'ready' then return end
  r.status = 'not_responding'
  r.version = r.version + 1
  H.settle_responder(r)
  H.tell_status(r, reason)
end

-- Reroutes: from>to@until;…
function H.arm_reroutes()
  local first
  for till in string.gmatch(L.reroutes, '@(%d+)') do first = math.min(first or num(till), num(till)) end
  if first then H.set_timer('reroutes:line', first) else H.cancel_timer('reroutes:line') end
end

-- What comes back after a loss: the functions of domain/src/line/recovery.rs, under the same names.
-- The arguments from ARGV[2] on that restore and reassert share: those of a request, then what was sealed.
function H.sealed()
  return {
    generation = ARGV[14], term = num(ARGV[15]), issued = num(ARGV[16]), expires = num(ARGV[17]),
    arrival = num(ARGV[18]), seq = num(ARGV[19]), version = num(ARGV[20]), step = num(ARGV[21]),
    returned = num(ARGV[22]), active = num(ARGV[23]), offers_made = num(ARGV[24]), assigned = num(ARGV[25]),
    proposals = num(ARGV[26]), came_from = ARGV[27], subject = ARGV[28],
  }
end

-- Whether a chat that is not here can have been lost. One that has ended is still known when its ticket expires.
function H.may_have_lost(sealed, node)
  local other_life = sealed.generation ~= L.generation
  return now < sealed.expires and (other_life or H.has_moved(node) or sealed.term < L.term)
end

-- Epochs go on above those of this term. On another node the end of the line may be missing, so the hold begins; in a new
-- life it has begun already.
function H.rise_above(sealed, node, term)
  local first_of_this_life = L.term == 0 and sealed.generation ~= L.generation
  if H.has_moved(node) and not first_of_this_life then L.recovering = now end
  if H.has_moved(node) or L.term <= term then H.begin_term(node, term) end
end

-- A chat comes back to its place.
function H.readmit(sealed, node, least_term)
  H.rise_above(sealed, node, least_term)
  L.accepted = L.accepted + 1
  L.waiting = L.waiting + 1
  local c = H.insert_chat('waiting', math.min(sealed.arrival, math.max(L.recovering - 1, 0)), sealed.seq)
  c.version = sealed.version + H.RESTORED_GAP
  c.step = math.min(sealed.step, math.max(#c.steps - 1, 0))
  c.returned = sealed.returned
  c.offers_made = math.min(sealed.offers_made + H.RESTORED_GAP, 4294967295)
  c.assigned, c.proposals, c.came_from = sealed.assigned, sealed.proposals, sealed.came_from
  c.subject = sealed.subject
  c.reclaim = sealed.assigned + (sealed.active == 1 and 0 or 1)
  c.recovering = now < H.recovers_at() and 1 or 0
  H.tell('restored', { chat = c.id, urgency = c.urgency })
  if c.recovering == 1 then H.set_timer('recover:line', H.recovers_at()) end
  if c.attested == 0 then H.set_timer('away:' .. c.id, now + P.away_after) end
  -- Nobody is absent for good who has not had the time to come back.
  H.take_place(c)
  if #P.partners > 0 then H.arm_overflow(c, false) end
  return c
end

-- Blocks: the functions of domain/src/line/blocks.rs, under the same names. A record of each; whose block is which, all of
-- them and those that nobody has confirmed by name.
H.BLOCK = { whom = '', chat = '', by = '', reason = '', lasts = 0, open_till = 0, confirmed_by = '', till = 0 }
H.blocks = {}

function H.block(id)
  if H.blocks[id] == nil then
    H.blocks[id] = H.load_record('block', id, H.BLOCK, 'whom') or false
  end
  return H.blocks[id] or nil
end

function H.whom(c) return c.subject ~= '' and 's' .. c.subject or 't' .. c.token end
function H.block_of(whom) return redis.call('HGET', base .. 'blocked', whom) or nil end

function H.is_blocked(whom)
  local id = H.block_of(whom)
  local b = id and H.block(id)
  return b and b.confirmed_by ~= '' and now < b.till
end

function H.settle_block(kind, b, reason)
  local till = b.confirmed_by ~= '' and b.till or b.open_till
  H.set_timer('block:' .. b.id, till)
  H.tell_block(kind, b, till, reason)
end

function H.tell_block(kind, b, till, reason)
  H.tell(kind, { chat = b.chat ~= '' and b.chat or nil, block = b.id, till = till, reason = reason })
end

function H.remove_block(b)
  redis.call('HDEL', base .. 'blocked', b.whom)
  redis.call('ZREM', base .. 'blocks', b.id)
  redis.call('ZREM', base .. 'proposed', b.id)
  H.cancel_timer('block:' .. b.id)
  b.gone = true
end

function H.unlink_block(c)
  local id = H.block_of(H.whom(c))
  local b = id and H.block(id)
  if b and b.chat == c.id then b.chat = '' end
end

-- For supervisors: the chat, or nil and the refusal.
function H.in_line(chat_id)
  local c = H.chat(chat_id)
  if not c or c.state == 'held' then return nil, 'unknown_chat' end
  if c.state == 'ended' then return nil, 'chat_ended', c.outcome end
  return c
end

function H.online(responder_id)
  local r = H.responder(responder_id)
  if not r or r.status == 'offline' then return nil, 'not_signed_in' end
  return r
end
