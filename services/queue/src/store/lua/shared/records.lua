-- Chats and responders: read once, changed in memory, written at the end, only what changed. Fields that this
-- version does not know are never touched. Here is what a field holds that is not there: '' or 0.
H.CHAT = { state = '', urgency = 0, arrival = 0, seq = 0, version = 0, token = '', key = '', body = '', replays = 0,
  attested = 0, away = 0, erased = 0, steps = '', step = 0, returned = 0, asked = '', offers = '', offers_made = 0,
  assigned = 0, owner = '', owner_offer = 0, epoch = 0, minted = 0, since = 0, engaged = 0, outcome = '', ended_at = 0,
  trace = '', lane = '', score = '', topics = '', excluded = '', fan_out = 0, shown = '', proposals = 0, partner = '',
  came_from = '', recovering = 0, reclaim = 0, failed = 0, failing = 0, subject = '' }
H.RESPONDER = { session = 0, linked = 0, status = '', cooling = 0, caps = '', scarce = 0, capacity = 0, holdings = '',
  rested = 0, version = 0, class = '', idle_rested = 0, opt_out = '', hard_row = 0, hard_shift = 0, shift_ending = 0,
  break_since = 0, left = 0 }
H.LIST_NUMBERS = { number = true, at = true, weight = true, hard = true, beyond = true,
  called = true }

-- Parts that an older version did not write are 0; parts that only a newer one knows are passed over.
function H.split(text, names)
  local list = {}
  if text == '' then return list end
  for item in string.gmatch(text, '[^,]+') do
    local record, i = {}, 1
    for part in string.gmatch(item, '[^@]+') do
      local name = names[i]
      if name then record[name] = H.LIST_NUMBERS[name] and num(part) or part end
      i = i + 1
    end
    for missing = i, #names do record[names[missing]] = 0 end
    list[#list + 1] = record
  end
  return list
end

function H.join(list, names)
  local items = {}
  for i, record in ipairs(list) do
    local parts = {}
    for j, name in ipairs(names) do
      local value = record[name]
      parts[j] = type(value) == 'number' and str(value) or value
    end
    items[i] = table.concat(parts, '@')
  end
  return table.concat(items, ',')
end

H.ASKED = { 'responder', 'at' }
H.OFFER = { 'number', 'responder' }
H.HOLDING = { 'kind', 'chat', 'weight', 'hard', 'beyond', 'called' }

function H.split_steps(text)
  local steps = {}
  for after, signature in string.gmatch(text, '(%d+)@([^;]+)') do
    steps[#steps + 1] = { after = num(after), signature = signature }
  end
  return steps
end

local lists = {
  steps = H.split_steps,
  asked = function(text) return H.split(text, H.ASKED) end,
  offers = function(text) return H.split(text, H.OFFER) end,
  holdings = function(text) return H.split(text, H.HOLDING) end,
}

-- Parsed when it is first looked at: most commands need few of many fields.
local looked_up = {
  __index = function(record, field)
    local none = record.known[field]
    if none == nil then return nil end
    local value = record.raw[field] or none
    if lists[field] then value = lists[field](value) elseif none == 0 then value = num(value) end
    rawset(record, field, value)
    return value
  end,
}

H.chats, H.responders = {}, {}

-- `always` is a field that every record of this kind has.
function H.load_record(kind, id, known, always)
  local key = base .. kind .. ':' .. id
  local stored, raw = redis.call('HGETALL', key), {}
  for i = 1, #stored, 2 do raw[stored[i]] = stored[i + 1] end
  if not raw[always] then return nil end
  local record = { id = id, record_key = key, known = known, raw = raw, blobs = {} }
  H.all_records[#H.all_records + 1] = record
  return setmetatable(record, looked_up)
end

function H.chat(id)
  if H.chats[id] == nil then
    local c = H.load_record('chat', id, H.CHAT, 'state')
    if c then c.member = string.format('%016.0f', c.seq) .. ':' .. id end
    H.chats[id] = c or false
  end
  return H.chats[id] or nil
end

function H.responder(id)
  if H.responders[id] == nil then
    H.responders[id] = H.load_record('responder', id, H.RESPONDER, 'session') or false
  end
  return H.responders[id] or nil
end

-- The lists of a record as text; the rest is stored as it is.
function H.list_text(record, field)
  local list = record[field]
  if field == 'asked' then return H.join(list, H.ASKED) end
  if field == 'offers' then return H.join(list, H.OFFER) end
  if field == 'holdings' then return H.join(list, H.HOLDING) end
  local steps = {}
  for i, step in ipairs(list) do steps[i] = str(step.after) .. '@' .. step.signature end
  return table.concat(steps, ';')
end

-- A record that is new has nothing stored: what is as good as not there is not written.
function H.flush_records()
  for _, record in ipairs(H.all_records) do
    if record.gone then
      redis.call('DEL', record.record_key)
    else
      local changes, known, raw = {}, record.known, record.raw
      for field, value in pairs(record) do
        local none = known[field]
        if none ~= nil then
          local before = raw[field] or none
          if none == 0 then before = num(before) end
          if type(value) == 'table' then value = H.list_text(record, field) end
          if value ~= before then
            changes[#changes + 1] = field
            changes[#changes + 1] = type(value) == 'number' and str(value) or value
          end
        end
      end
      for field, text in pairs(record.blobs) do
        changes[#changes + 1] = field
        changes[#changes + 1] = text
      end
      if #changes > 0 then redis.call('HSET', record.record_key, unpack(changes)) end
    end
  end
end

function H.load_of(r)
  local sum = 0
  for _, h in ipairs(r.holdings) do sum = sum + h.weight end
  return sum
end
function H.free_of(r) return math.max(r.capacity - H.load_of(r), 0) end
-- No hard chat may be offered to them now: the shift ends soon, or they had as many as is good.
function H.spared(r)
  if r.shift_ending == 1 then return true end
  if P.hard_in_row == 0 and P.hard_in_shift == 0 then return false end
  local offered = 0
  for _, h in ipairs(r.holdings) do
    if h.kind == 'offer' and h.hard == 1 then offered = offered + 1 end
  end
  return P.hard_in_row > 0 and r.hard_row + offered >= P.hard_in_row
    or P.hard_in_shift > 0 and r.hard_shift + offered >= P.hard_in_shift
end
function H.excludes(c, responder_id)
  return c.excluded ~= '' and string.find(',' .. c.excluded .. ',', ',' .. responder_id .. ',', 1, true) ~= nil
end
function H.available(r) return r.status == 'ready' and r.linked == 1 and r.cooling == 0 end
function H.holding_of(r, chat_id)
  for _, h in ipairs(r.holdings) do
    if h.chat == chat_id then return h end
  end
  return nil
end
function H.offer_to(c, responder_id)
  for _, o in ipairs(c.offers) do
    if o.responder == responder_id then return o end
  end
  return nil
end

-- The responder, or nil and the refusal.
function H.check_session(id, session)
  local r = H.responder(id)
  if not r or r.status == 'offline' then return nil, 'not_signed_in' end
  if r.session ~= session or r.linked == 0 then return nil, 'stale_session' end
  return r
end

-- The chat if the assignment is this responder's, by its newest fence; nil otherwise.
function H.check_fence(id, chat_id, epoch, minted)
  local c = H.chat(chat_id)
  local theirs = c and c.owner == id and c.epoch == epoch and c.minted == minted
  return theirs and c or nil
end

-- The answer to a responder; after `finish`.
function H.responder_view(r)
  return H.reply(table.concat({ r.id, str(r.session), r.status, str(r.cooling), str(r.version), str(now) }, ' '))
end
