-- Joined in front of every command. Keys, the service clock, the line's own numbers, and one place that writes.
-- KEYS[1]  the helpline's base key hf:{helpline}:line; every other key is derived from it and shares its hash tag
-- ARGV[1]  store time in milliseconds for tests, or '' for the store's own clock
local base = string.sub(KEYS[1], 1, -5)
local line_key = KEYS[1]
local timers_key = base .. 'timers'

-- Everything shared hangs on one table, and the parts behind this one define their functions only when one of them is
-- first needed: defining a function costs a microsecond each time the script runs, and most commands need a few.
local parts = {}
local H = setmetatable({}, {
  __index = function(h, name)
    while #parts > 0 do
      table.remove(parts, 1)()
      local found = rawget(h, name)
      if found ~= nil then return found end
    end
    return nil
  end,
})

local function num(text) return tonumber(text) or 0 end
-- Whole numbers as text: Lua would print large ones with an exponent.
local function str(number) return string.format('%d', number) end

-- The line's numbers, as they were and as they are: the usual ones are read at once, the rest when first looked at,
-- and only what changed is written.
local was = {}
do
  local fields = { 'now', 'last', 'term', 'node', 'events', 'revision', 'generation', 'policy',
    'accepted', 'waiting', 'offered', 'active', 'reroutes' }
  local values = redis.call('HMGET', line_key, unpack(fields))
  for i, field in ipairs(fields) do was[field] = values[i] or '' end
end
local L = setmetatable({ generation = was.generation, reroutes = was.reroutes }, {
  __index = function(line, field)
    if was[field] == nil then was[field] = redis.call('HGET', line_key, field) or '' end
    local value = num(was[field])
    rawset(line, field, value)
    return value
  end,
})

-- Reads several of them at once.
function H.prefetch(fields)
  local values = redis.call('HMGET', line_key, unpack(fields))
  for i, field in ipairs(fields) do
    if was[field] == nil then was[field] = values[i] or '' end
  end
end

-- The service clock: never back, never more than a second at a time (domain/src/clock.rs).
H.MAX_STEP_MS = 1000
do
  local wall = tonumber(ARGV[1])
  if not wall then
    local time = redis.call('TIME')
    wall = num(time[1]) * 1000 + math.floor(num(time[2]) / 1000)
  end
  if L.last == 0 then
    L.now = wall
  else
    L.now = L.now + math.min(math.max(wall - L.last, 0), H.MAX_STEP_MS)
  end
  L.last = wall
end
local now = L.now

-- The policy's numbers; by urgency: 1 LOW to 4 IMMINENT. Nil before the first policy, when nothing gets this far.
local P = was.policy ~= '' and cmsgpack.unpack(was.policy) or nil

H.IMMINENT = 3
H.HIGH = 2
H.IMMINENT_OFFSET = 8796093022208 -- 2^43, domain/src/priority.rs
H.SEARCH_DEPTH = 16
H.SWEEP = 160
H.MAX_ASKED = 8
H.MAX_FAN_OUT = 4
H.MAX_REROUTES = 8
H.MAX_POLICIES = 20
H.MAX_BLOCKS = 10000
H.MAX_BLOCK_PROPOSALS = 100
H.ASK_AGAIN = 2000
H.RESTORED_GAP = 1000
H.RECOVER_BATCH = 500

-- Timers are changed in memory and written at the end, all at once.
H.timer_changes = {}
function H.set_timer(name, at) H.timer_changes[name] = at end
function H.cancel_timer(name) H.timer_changes[name] = false end
function H.timer_at(name)
  local changed = H.timer_changes[name]
  if changed ~= nil then return changed or nil end
  return tonumber(redis.call('ZSCORE', timers_key, name) or '')
end

function H.flush_timers()
  local set, cancelled = {}, {}
  for name, at in pairs(H.timer_changes) do
    if at then
      set[#set + 1] = str(at)
      set[#set + 1] = name
    else
      cancelled[#cancelled + 1] = name
    end
  end
  -- So many fit into one call.
  for from = 1, #cancelled, 1000 do redis.call('ZREM', timers_key, unpack(cancelled, from, math.min(from + 999, #cancelled))) end
  for from = 1, #set, 1000 do redis.call('ZADD', timers_key, unpack(set, from, math.min(from + 999, #set))) end
end

-- The moment is written also when it is the same: a command that writes nothing, such as a repeat within a millisecond,
-- would leave WAIT nothing to prove that replicas have what it answers from.
function H.flush_line()
  local changes = {}
  for field, value in pairs(L) do
    local text = type(value) == 'number' and str(value) or value
    if was[field] ~= text or field == 'last' then
      changes[#changes + 1] = field
      changes[#changes + 1] = text
    end
  end
  if #changes > 0 then redis.call('HSET', line_key, unpack(changes)) end
end

-- Events are told in order, appended to the stream and published in one piece with the change. On another node the last
-- numbers may be missing: the first event there begins a term.
H.told = {}
function H.tell(kind, about)
  if #H.told == 0 and L.term ~= 0 then H.begin_term_if_moved() end
  L.events = L.events + 1
  local words = { 's=' .. str(L.events), 't=' .. str(L.term), 'a=' .. str(now), 'k=' .. kind,
    'p=' .. str(L.revision) }
  if H.by then words[#words + 1] = 'b=' .. H.by end
  if about.chat then words[#words + 1] = 'c=' .. about.chat end
  if about.responder then words[#words + 1] = 'r=' .. about.responder end
  if about.urgency then words[#words + 1] = 'u=' .. about.urgency end
  if about.offer then words[#words + 1] = 'o=' .. str(about.offer) end
  if about.epoch then words[#words + 1] = 'e=' .. str(about.epoch) .. ' m=' .. str(about.minted) end
  if about.till then words[#words + 1] = 'd=' .. str(about.till) end
  if about.outcome then words[#words + 1] = 'x=' .. about.outcome end
  if about.reason then words[#words + 1] = 'w=' .. about.reason end
  if about.status then words[#words + 1] = 'z=' .. about.status end
  if about.partner then words[#words + 1] = 'h=' .. about.partner end
  if about.block then words[#words + 1] = 'l=' .. about.block end
  if about.number then words[#words + 1] = 'n=' .. str(about.number) end
  H.told[#H.told + 1] = table.concat(words, ' ')
  H.told[H.told[#H.told]] = str(L.term) .. '-' .. str(L.events)
end

function H.flush_events()
  if #H.told == 0 then return end
  for _, text in ipairs(H.told) do
    redis.call('XADD', base .. 'events', 'MAXLEN', '~', str(P.keep_events), H.told[text], 'e', text)
  end
  redis.call('PUBLISH', base .. 'notices', L.generation .. '\n' .. table.concat(H.told, '\n'))
end

-- A refusal changes nothing but the clock.
function H.refuse(word, fact)
  local moved = {}
  if was.now ~= str(L.now) then moved[#moved + 1] = 'now'; moved[#moved + 1] = str(L.now) end
  moved[#moved + 1] = 'last'
  moved[#moved + 1] = str(L.last)
  redis.call('HSET', line_key, unpack(moved))
  return { word, fact or '' }
end

function H.reply(words, blob)
  local answer = { 'ok', words, blob or '' }
  for _, text in ipairs(H.told) do answer[#answer + 1] = text end
  return answer
end

-- Who became free and who became matchable in this command, in the order in which it happened.
H.freed, H.hungry, H.sweep = {}, {}, false
-- Something changed for everybody; too few are on shift from now on; the supervisor who asked.
H.everyone, H.gate_shut, H.by = false, false, false
H.all_records = {}

function H.done() return H.reply(str(now)) end

-- Brings together who became free and who became matchable, then writes everything.
function H.finish()
  if #H.freed > 0 or #H.hungry > 0 or H.everyone or H.gate_shut then H.match() end
  if rawget(H, 'LANES') then
    H.apply_moves(H.LANES)
    H.apply_moves(H.CLASSES)
  end
  if #H.all_records > 0 then H.flush_records() end
  H.flush_timers()
  H.flush_events()
  H.flush_line()
end
