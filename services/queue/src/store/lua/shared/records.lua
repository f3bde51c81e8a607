-- Chats and responders: read once, changed in memory, written at the end, only what changed. Fields that this
-- version does not know are never touched.
local CHAT_FIELDS = { 'state', 'urgency', 'arrival', 'seq', 'version', 'token', 'key', 'body', 'replays', 'attested',
  'away', 'erased', 'steps', 'step', 'returned', 'asked', 'offers', 'offers_made', 'assigned', 'owner', 'owner_offer',
  'epoch', 'minted', 'since', 'engaged', 'outcome', 'ended_at', 'trace', 'lane', 'score' }
local CHAT_NUMBERS = { 'urgency', 'arrival', 'seq', 'version', 'replays', 'attested', 'away', 'erased', 'step',
  'returned', 'offers_made', 'assigned', 'owner_offer', 'epoch', 'minted', 'since', 'engaged', 'ended_at' }
local RESPONDER_FIELDS = { 'session', 'linked', 'status', 'cooling', 'caps', 'scarce', 'capacity', 'holdings',
  'rested', 'version', 'class', 'idle_rested' }
local RESPONDER_NUMBERS = { 'session', 'linked', 'cooling', 'scarce', 'capacity', 'rested', 'version', 'idle_rested' }

local function split(text, names)
  local list = {}
  for item in string.gmatch(text, '[^,]+') do
    local record, i = {}, 1
    for part in string.gmatch(item, '[^@]+') do
      record[names[i]] = names[i] == 'number' and num(part) or names[i] == 'at' and num(part)
        or names[i] == 'weight' and num(part) or part
      i = i + 1
    end
    list[#list + 1] = record
  end
  return list
end

local function join(list, names)
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

local ASKED = { 'responder', 'at' }
local OFFER = { 'number', 'responder' }
local HOLDING = { 'kind', 'chat', 'weight' }

local function split_steps(text)
  local steps = {}
  for after, signature in string.gmatch(text, '(%d+)@([^;]+)') do
    steps[#steps + 1] = { after = num(after), signature = signature }
  end
  return steps
end

local chats, responders = {}, {}
local all_records = {}

local function load_record(kind, id, fields, numbers)
  local key = base .. kind .. ':' .. id
  local values = redis.call('HMGET', key, unpack(fields))
  if not values[1] then return nil end
  local record = { id = id, record_key = key, raw = {} }
  for i, field in ipairs(fields) do
    record.raw[field] = values[i] or ''
    record[field] = values[i] or ''
  end
  for _, field in ipairs(numbers) do record[field] = num(record[field]) end
  all_records[#all_records + 1] = record
  return record
end

local function chat(id)
  if chats[id] == nil then
    local c = load_record('chat', id, CHAT_FIELDS, CHAT_NUMBERS)
    if c then
      c.fields, c.blobs = CHAT_FIELDS, {}
      c.steps = split_steps(c.steps)
      c.asked = split(c.asked, ASKED)
      c.offers = split(c.offers, OFFER)
      c.member = string.format('%016.0f', c.seq) .. ':' .. id
    end
    chats[id] = c or false
  end
  return chats[id] or nil
end

local function responder(id)
  if responders[id] == nil then
    local r = load_record('responder', id, RESPONDER_FIELDS, RESPONDER_NUMBERS)
    if r then
      r.fields, r.blobs = RESPONDER_FIELDS, {}
      r.holdings = split(r.holdings, HOLDING)
    end
    responders[id] = r or false
  end
  return responders[id] or nil
end

local function encode(record, field)
  local value = record[field]
  if type(value) == 'number' then return str(value) end
  if type(value) ~= 'table' then return value end
  if field == 'asked' then return join(value, ASKED) end
  if field == 'offers' then return join(value, OFFER) end
  if field == 'holdings' then return join(value, HOLDING) end
  local steps = {}
  for i, step in ipairs(value) do steps[i] = str(step.after) .. '@' .. step.signature end
  return table.concat(steps, ';')
end

local function flush_records()
  for _, record in ipairs(all_records) do
    if record.gone then
      redis.call('DEL', record.record_key)
    else
      local changes = {}
      for _, field in ipairs(record.fields) do
        local text = encode(record, field)
        if text ~= record.raw[field] then
          changes[#changes + 1] = field
          changes[#changes + 1] = text
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

local function load_of(r)
  local sum = 0
  for _, h in ipairs(r.holdings) do sum = sum + h.weight end
  return sum
end
local function free_of(r) return math.max(r.capacity - load_of(r), 0) end
local function available(r) return r.status == 'ready' and r.linked == 1 and r.cooling == 0 end
local function holding_of(r, chat_id)
  for _, h in ipairs(r.holdings) do
    if h.chat == chat_id then return h end
  end
  return nil
end
local function offer_to(c, responder_id)
  for _, o in ipairs(c.offers) do
    if o.responder == responder_id then return o end
  end
  return nil
end
