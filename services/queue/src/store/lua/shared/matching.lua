-- Who meets whom; the functions of domain/src/line/matching.rs, under the same names.
function H.covers(have, need)
  for i = 1, #need, 8 do
    local needed = tonumber(string.sub(need, i, i + 7), 16)
    local had = tonumber(string.sub(have, i, i + 7), 16) or 0
    if bit.band(needed, bit.bnot(had)) ~= 0 then return false end
  end
  return true
end

function H.shares(a, b)
  for i = 1, math.min(#a, #b), 8 do
    local both = bit.band(tonumber(string.sub(a, i, i + 7), 16), tonumber(string.sub(b, i, i + 7), 16))
    if both ~= 0 then return true end
  end
  return false
end

-- For a time, what one requirement asks for may be served by those who meet another.
function H.rerouted(signature)
  if L.reroutes == '' then return signature end
  for from, to in string.gmatch(L.reroutes, '([^>;]+)>([^@]+)@%d+') do
    if from == signature then return to end
  end
  return signature
end

function H.fits(lane, free, capacity, spared, opt_out, caps, id)
  local weight, hard, topics, signature = string.match(lane, '^(%d+):(%d):([^:]*):(.*)$')
  if not weight then return false end -- the lane of those who may be in somebody's hands
  if free < math.min(num(weight), capacity) or (hard == '1' and spared) then return false end
  if topics ~= '-' and opt_out ~= '-' and H.shares(topics, opt_out) then return false end
  local only, rest = string.match(signature, '^=([^=]+)=(.*)$')
  if only then
    if only ~= id then return false end
    signature = rest
  else
    signature = H.rerouted(signature)
  end
  for need in string.gmatch(signature, '[^,]+') do
    if need == '-' or H.covers(caps, need) then return true end
  end
  return false
end

function H.fits_responder(lane, r)
  return H.fits(lane, H.free_of(r), r.capacity, H.spared(r), r.opt_out, r.caps, r.id)
end

function H.only_imminent() return P.reserve > 0 and H.size(H.CLASSES) <= P.reserve end

-- 'fits', 'not_yet' (a shorter patience would do) or 'never'
function H.look(c, responder_id, patient)
  if H.offer_to(c, responder_id) or H.excludes(c, responder_id) then return 'never' end
  for _, a in ipairs(c.asked) do
    if a.responder == responder_id then
      if now >= a.at + P.back_off then return 'fits' end
      if now < a.at + P.min_back_off then return 'never' end
      return patient and 'not_yet' or 'fits'
    end
  end
  return 'fits'
end

function H.search_chats(r, patient)
  local only = H.only_imminent()
  local best, best_score, passed_over = nil, nil, false
  H.walk_heads(H.LANES, function(head, lane)
    if (best and head >= best_score) or (only and not H.is_imminent(head)) then return true end
    if not H.fits_responder(lane, r) then return false end
    H.walk_members(H.LANES, lane, function(score, member)
      if (best and score >= best_score) or (only and not H.is_imminent(score)) then return true end
      local c = H.chat(string.sub(member, 18))
      local said = c and H.look(c, r.id, patient) or 'never'
      if said == 'fits' then
        best, best_score = c, score
        return true
      end
      if said == 'not_yet' then passed_over = true end
      return false
    end)
    return false
  end)
  return best, passed_over
end

function H.best_chat_for(r)
  if r.class == '' then return nil end
  local found, passed_over = H.search_chats(r, true)
  if found or not passed_over then return found end
  return (H.search_chats(r, false))
end

-- The one whom the visitor would like to meet again, if they are free.
function H.ask_only(c, id, patient)
  local r = H.responder(id)
  if not r or r.class == '' or not H.fits_responder(c.lane, r) then return nil, false end
  local said = H.look(c, id, patient)
  return said == 'fits' and id or nil, said == 'not_yet'
end

function H.search_responders(c, patient)
  local only = string.match(c.steps[c.step + 1].signature, '^=([^=]+)=')
  if only then return H.ask_only(c, only, patient) end
  local best, best_score, passed_over = nil, nil, false
  H.walk_heads(H.CLASSES, function(head, class)
    if best and head >= best_score then return true end
    local free_load, capacity, spared, opt_out, caps = string.match(class, '^%d+:(%d+):(%d+):(%d):([^:]*):(.*)$')
    if not H.fits(c.lane, num(free_load), num(capacity), spared == '1', opt_out, caps) then return false end
    H.walk_members(H.CLASSES, class, function(score, id)
      if best and score >= best_score then return true end
      local said = H.look(c, id, patient)
      if said == 'fits' then
        best, best_score = id, score
        return true
      end
      if said == 'not_yet' then passed_over = true end
      return false
    end)
    return false
  end)
  return best, passed_over
end

function H.best_responder_for(c)
  if c.lane == '' then return nil end
  if H.only_imminent() and not H.is_imminent(num(c.score)) then return nil end
  local found, passed_over = H.search_responders(c, true)
  if found or not passed_over then return found end
  return (H.search_responders(c, false))
end

-- What a chat takes of a responder: whoever is in danger takes what is free.
function H.weight_in(r, urgency)
  local weight, free = math.min(P.weight[urgency + 1], r.capacity), H.free_of(r)
  return urgency == H.IMMINENT and free > 0 and math.min(weight, free) or weight
end

function H.offer(c, r, reason, glass)
  local deadline = now + P.offer_deadline
  c.offers_made = c.offers_made + 1
  c.version = c.version + 1
  c.offers[#c.offers + 1] = { number = c.offers_made, responder = r.id }
  local weight, free = H.weight_in(r, c.urgency), H.free_of(r)
  r.holdings[#r.holdings + 1] = {
    kind = 'offer', chat = c.id, weight = weight, hard = H.is_hard(c.urgency) and 1 or 0,
    beyond = weight > free and 1 or 0, called = 0,
  }
  r.version = r.version + 1
  H.happen(c, 'offer')
  H.set_timer('offer:' .. c.id .. ':' .. str(c.offers_made), deadline)
  H.settle_chat(c)
  H.settle_responder(r)
  H.tell('offered', {
    chat = c.id, responder = r.id, urgency = c.urgency, offer = c.offers_made, till = deadline, reason = reason,
    number = glass,
  })
end

function H.match_responder(r)
  local c = H.best_chat_for(r)
  while c do
    H.offer(c, r)
    c = H.best_chat_for(r)
  end
end

function H.match_chat(c)
  local id = H.best_responder_for(c)
  while id do
    H.offer(c, H.responder(id))
    id = H.best_responder_for(c)
  end
end

function H.match_held_back()
  if H.size(H.LANES) == 0 or (not H.everyone and H.only_imminent()) then return end
  for _, id in ipairs(redis.call('ZRANGE', H.CLASSES.all, 0, H.SWEEP - 1)) do H.match_responder(H.responder(id)) end
end

-- Responders who became free first, then chats that became matchable, most urgent first.
function H.match()
  -- What is matched from here on is nobody's wish but the line's.
  H.by = false
  if H.gate_shut then H.hasten_overflow() end
  if not H.gate_open() then return end
  local seen = {}
  for _, id in ipairs(H.freed) do
    if not seen['r' .. id] then
      seen['r' .. id] = true
      H.sweep = true
      local r = H.responder(id)
      if r and not r.gone then H.match_responder(r) end
    end
  end
  local waiting = {}
  for _, id in ipairs(H.hungry) do
    local c = H.chat(id)
    if not seen['c' .. id] and c and not c.gone and c.lane ~= '' then
      seen['c' .. id] = true
      waiting[#waiting + 1] = { score = num(c.score), member = c.member, chat = c }
    end
  end
  table.sort(waiting, function(a, b)
    if a.score ~= b.score then return a.score < b.score end
    return a.member < b.member
  end)
  for _, w in ipairs(waiting) do H.match_chat(w.chat) end
  if H.everyone or (H.sweep and P.reserve > 0) then H.match_held_back() end
end
