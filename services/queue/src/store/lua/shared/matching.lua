-- Who meets whom; the functions of domain/src/line/matching.rs, under the same names.
local function covers(have, need)
  for i = 1, #need, 8 do
    local needed = tonumber(string.sub(need, i, i + 7), 16)
    local had = tonumber(string.sub(have, i, i + 7), 16) or 0
    if bit.band(needed, bit.bnot(had)) ~= 0 then return false end
  end
  return true
end

local function fits(lane, free, capacity, caps)
  local weight, signature = string.match(lane, '^(%d+):(.*)$')
  if free < math.min(num(weight), capacity) then return false end
  for need in string.gmatch(signature, '[^,]+') do
    if need == '-' or covers(caps, need) then return true end
  end
  return false
end

local function only_imminent() return P.reserve > 0 and size(CLASSES) <= P.reserve end

-- 'fits', 'not_yet' (a shorter patience would do) or 'never'
local function look(c, responder_id, patient)
  if offer_to(c, responder_id) then return 'never' end
  for _, a in ipairs(c.asked) do
    if a.responder == responder_id then
      if now >= a.at + P.back_off then return 'fits' end
      if now < a.at + P.min_back_off then return 'never' end
      return patient and 'not_yet' or 'fits'
    end
  end
  return 'fits'
end

local function search_chats(r, patient)
  local only = only_imminent()
  local best, best_score, passed_over = nil, nil, false
  walk_heads(LANES, function(head, lane)
    if (best and head >= best_score) or (only and not is_imminent(head)) then return true end
    if not fits(lane, free_of(r), r.capacity, r.caps) then return false end
    walk_members(LANES, lane, function(score, member)
      if (best and score >= best_score) or (only and not is_imminent(score)) then return true end
      local c = chat(string.sub(member, 18))
      local said = c and look(c, r.id, patient) or 'never'
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

local function best_chat_for(r)
  if r.class == '' then return nil end
  local found, passed_over = search_chats(r, true)
  if found or not passed_over then return found end
  return (search_chats(r, false))
end

local function search_responders(c, patient)
  local best, best_score, passed_over = nil, nil, false
  walk_heads(CLASSES, function(head, class)
    if best and head >= best_score then return true end
    local free_load, capacity, caps = string.match(class, '^%d+:(%d+):(%d+):(.*)$')
    if not fits(c.lane, num(free_load), num(capacity), caps) then return false end
    walk_members(CLASSES, class, function(score, id)
      if best and score >= best_score then return true end
      local said = look(c, id, patient)
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

local function best_responder_for(c)
  if c.lane == '' then return nil end
  if only_imminent() and not is_imminent(num(c.score)) then return nil end
  local found, passed_over = search_responders(c, true)
  if found or not passed_over then return found end
  return (search_responders(c, false))
end

local function offer(c, r)
  local deadline = now + P.offer_deadline
  c.offers_made = c.offers_made + 1
  c.version = c.version + 1
  c.offers[#c.offers + 1] = { number = c.offers_made, responder = r.id }
  r.holdings[#r.holdings + 1] =
    { kind = 'offer', chat = c.id, weight = math.min(P.weight[c.urgency + 1], r.capacity) }
  r.version = r.version + 1
  happen(c, 'offer')
  set_timer('offer:' .. c.id .. ':' .. str(c.offers_made), deadline)
  settle_chat(c)
  settle_responder(r)
  tell('offered', { chat = c.id, responder = r.id, urgency = c.urgency, offer = c.offers_made, till = deadline })
end

local function match_responder(r)
  local c = best_chat_for(r)
  while c do
    offer(c, r)
    c = best_chat_for(r)
  end
end

local function match_chat(c)
  local id = best_responder_for(c)
  while id do
    offer(c, responder(id))
    id = best_responder_for(c)
  end
end

local function match_held_back()
  if size(LANES) == 0 or only_imminent() then return end
  for _, id in ipairs(redis.call('ZRANGE', CLASSES.all, 0, SWEEP - 1)) do match_responder(responder(id)) end
end

-- Brings together who became free and who became matchable, then writes everything.
local function finish()
  local seen = {}
  for _, id in ipairs(freed) do
    if not seen['r' .. id] then
      seen['r' .. id] = true
      sweep = true
      local r = responder(id)
      if r and not r.gone then match_responder(r) end
    end
  end
  local waiting = {}
  for _, id in ipairs(hungry) do
    local c = chat(id)
    if not seen['c' .. id] and c and not c.gone and c.lane ~= '' then
      seen['c' .. id] = true
      waiting[#waiting + 1] = { score = num(c.score), member = c.member, chat = c }
    end
  end
  table.sort(waiting, function(a, b)
    if a.score ~= b.score then return a.score < b.score end
    return a.member < b.member
  end)
  for _, w in ipairs(waiting) do match_chat(w.chat) end
  if sweep and P.reserve > 0 then match_held_back() end
  apply_moves(LANES)
  apply_moves(CLASSES)
  flush_records()
  flush_timers()
  flush_events()
  flush_line()
end

local function reply(words, blob)
  local answer = { 'ok', words, blob or '' }
  for _, text in ipairs(told) do answer[#answer + 1] = text end
  return answer
end

-- The answer to a visitor; after `finish`.
local function view(c, replay)
  local place = 0
  if c.lane ~= '' then place = num(redis.call('ZRANK', LANES.all, c.member) or -1) + 1 end
  local pace = L.hand_overs >= 5 and L.gap or 0
  return reply(table.concat({
    c.id, c.state, str(c.urgency), str(c.version), str(place), str(c.away), str(c.arrival),
    c.outcome == '' and '-' or c.outcome, replay and '1' or '0', str(now), str(pace),
  }, ' '))
end

-- The answer to a responder; after `finish`.
local function responder_view(r)
  return reply(table.concat({ r.id, str(r.session), r.status, str(r.cooling), str(r.version), str(now) }, ' '))
end

-- The answer to an accept; after `finish`.
local function assignment(c)
  local handoff = redis.call('HGET', c.record_key, 'handoff') or ''
  return reply(table.concat({
    c.id, str(c.epoch), str(c.minted), str(c.urgency), str(responder(c.owner).version),
    c.trace == '' and '-' or c.trace,
  }, ' '), handoff)
end
