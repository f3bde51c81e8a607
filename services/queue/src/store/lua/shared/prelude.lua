-- Joined in front of every command. Keys, the service clock, the line's own numbers, and one place that writes.
-- KEYS[1]  the helpline's base key hf:{helpline}:line; every other key is derived from it and shares its hash tag
-- ARGV[1]  store time in milliseconds for tests, or '' for the store's own clock
local base = string.sub(KEYS[1], 1, -5)
local line_key = KEYS[1]
local timers_key = base .. 'timers'

local function num(text) return tonumber(text) or 0 end
-- Whole numbers as text: Lua would print large ones with an exponent.
local function str(number) return string.format('%.0f', number) end

-- The line's numbers, as they were and as they are; only what changed is written.
local was = {}
local L = {}
do
  local flat = redis.call('HGETALL', line_key)
  for i = 1, #flat, 2 do was[flat[i]] = flat[i + 1] end
  for _, field in ipairs({ 'now', 'last', 'term', 'node', 'arrivals', 'events', 'revision', 'accepted', 'waiting',
    'offered', 'active', 'completed', 'left', 'abandoned', 'overflowed', 'fallback', 'blocked', 'hand_overs',
    'last_hand_over', 'gap', 'ticked' }) do
    L[field] = num(was[field])
  end
  L.ticker = was.ticker or ''
  L.generation = was.generation or ''
end

-- The service clock: never back, never more than a second at a time (domain/src/clock.rs).
local MAX_STEP_MS = 1000
do
  local wall = tonumber(ARGV[1])
  if not wall then
    local time = redis.call('TIME')
    wall = num(time[1]) * 1000 + math.floor(num(time[2]) / 1000)
  end
  if L.last == 0 then
    L.now = wall
  else
    L.now = L.now + math.min(math.max(wall - L.last, 0), MAX_STEP_MS)
  end
  L.last = wall
end
local now = L.now

-- The policy's numbers, in the order of store/keys.rs; by urgency: 1 LOW to 4 IMMINENT.
local function read_numbers(text)
  local n = {}
  for word in string.gmatch(text, '%S+') do n[#n + 1] = num(word) end
  return {
    known = #n > 0,
    head_start = { n[1], n[2], n[3], 0 },
    return_head_start = n[4],
    weight = { n[5], n[6], n[7], n[8] },
    fan_out = n[9],
    reserve = n[10] or 0,
    max_waiting = n[11],
    offer_deadline = n[12],
    back_off = n[13],
    min_back_off = n[14],
    presence_lease = n[15],
    reconnect_grace = n[16],
    away_after = n[17],
    abandon_after = n[18],
    wrap_up = { n[19], n[20], n[21], n[22] },
    cool_down = { n[23], n[24], n[25], n[26] },
    strain = { n[27], n[28], n[29], n[30] },
    retention = n[31],
    keep_events = n[32],
  }
end
local P = read_numbers(was.numbers or '')

local IMMINENT = 3
local IMMINENT_OFFSET = 8796093022208 -- 2^43, domain/src/priority.rs
local SEARCH_DEPTH = 16
local SWEEP = 160
local MAX_ASKED = 8

-- Timers are changed in memory and written at the end, all at once.
local timer_changes = {}
local function set_timer(name, at) timer_changes[name] = at end
local function cancel_timer(name) timer_changes[name] = false end
local function timer_at(name)
  local changed = timer_changes[name]
  if changed ~= nil then return changed or nil end
  return tonumber(redis.call('ZSCORE', timers_key, name) or '')
end

local function flush_timers()
  local set, cancelled = {}, {}
  for name, at in pairs(timer_changes) do
    if at then
      set[#set + 1] = str(at)
      set[#set + 1] = name
    else
      cancelled[#cancelled + 1] = name
    end
  end
  if #cancelled > 0 then redis.call('ZREM', timers_key, unpack(cancelled)) end
  if #set > 0 then redis.call('ZADD', timers_key, unpack(set)) end
end

local function flush_line()
  local changes = {}
  for field, value in pairs(L) do
    local text = type(value) == 'number' and str(value) or value
    if was[field] ~= text then
      changes[#changes + 1] = field
      changes[#changes + 1] = text
    end
  end
  if #changes > 0 then redis.call('HSET', line_key, unpack(changes)) end
end

-- Events are told in order, appended to the stream and published in one piece with the change.
local told = {}
local function tell(kind, about)
  L.events = L.events + 1
  local words = { 's=' .. str(L.events), 't=' .. str(L.term), 'a=' .. str(now), 'k=' .. kind }
  if about.chat then words[#words + 1] = 'c=' .. about.chat end
  if about.responder then words[#words + 1] = 'r=' .. about.responder end
  if about.urgency then words[#words + 1] = 'u=' .. about.urgency end
  if about.offer then words[#words + 1] = 'o=' .. str(about.offer) end
  if about.epoch then words[#words + 1] = 'e=' .. str(about.epoch) .. ' m=' .. str(about.minted) end
  if about.till then words[#words + 1] = 'd=' .. str(about.till) end
  if about.outcome then words[#words + 1] = 'x=' .. about.outcome end
  if about.reason then words[#words + 1] = 'w=' .. about.reason end
  if about.status then words[#words + 1] = 'z=' .. about.status end
  told[#told + 1] = table.concat(words, ' ')
  told[told[#told]] = str(L.term) .. '-' .. str(L.events)
end

local function flush_events()
  if #told == 0 then return end
  for _, text in ipairs(told) do
    redis.call('XADD', base .. 'events', 'MAXLEN', '~', str(P.keep_events or 100000), told[text], 'e', text)
  end
  redis.call('PUBLISH', base .. 'notices', L.generation .. '\n' .. table.concat(told, '\n'))
end

-- A refusal changes nothing but the clock.
local function refuse(word, fact)
  local moved = {}
  if was.now ~= str(L.now) then moved[#moved + 1] = 'now'; moved[#moved + 1] = str(L.now) end
  if was.last ~= str(L.last) then moved[#moved + 1] = 'last'; moved[#moved + 1] = str(L.last) end
  if #moved > 0 then redis.call('HSET', line_key, unpack(moved)) end
  return { word, fact or '' }
end
