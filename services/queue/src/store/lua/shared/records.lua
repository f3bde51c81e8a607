-- Chats and responders: read once, changed in memory, written at the end, only what changed. Fields that this
-- version does not know are never touched.
H.CHAT_FIELDS = { 'state', 'urgency', 'arrival', 'seq', 'version', 'token', 'key', 'body', 'replays', 'attested',
  'away', 'erased', 'steps', 'step', 'returned', 'asked', 'offers', 'offers_made', 'assigned', 'owner', 'owner_offer',
  'epoch', 'minted', 'since', 'engaged', 'outcome', 'ended_at', 'trace', 'lane', 'score', 'topics', 'excluded', 'fan_out',
  'shown', 'proposals', 'partner', 'came_from', 'recovering', 'reclaim', 'failed', 'failing', 'subject' }
H.CHAT_NUMBERS = { 'urgency', 'arrival', 'seq', 'version', 'replays', 'attested', 'away', 'erased', 'step',
  'returned', 'offers_made', 'assigned', 'owner_offer', 'epoch', 'minted', 'since', 'engaged', 'ended_at', 'fan_out',
  'proposals', 'recovering', 'reclaim', 'failed', 'failing' }
H.RESPONDER_FIELDS = { 'session', 'linked', 'status', 'cooling', 'caps', 'scarce', 'capacity', 'holdings',
  'rested', 'version', 'class', 'idle_rested', 'opt_out', 'hard_row', 'hard_shift', 'shift_ending', 'break_since',
  'left' }
H.RESPONDER_NUMBERS = { 'session', 'linked', 'cooling', 'scarce', 'capacity', 'rested', 'version', 'idle_rested',
  'hard_row', 'hard_shift', 'shift_ending', 'break_since', 'left' }
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

H.chats, H.responders = {}, {}

function H.load_record(kind, id, fields, numbers)
  local key = base .. kind .. ':' .. id
  local values = redis.call('HMGET', key, unpack(fields))
  if not values[1] then return nil end
  local record, raw = { id = id, record_key = key, fields = fields, blobs = {} }, {}
  for i, field in ipairs(fields) do
    local value = values[i] or ''
    raw[field], record[field] = value, value
  end
  for _, field in ipairs(numbers) do
    local value = num(record[field])
    raw[field], record[field] = value, value
  end
  record.raw = raw
  H.all_records[#H.all_records + 1] = record
  return record
end

function H.chat(id)
  if H.chats[id] == nil then
    local c = H.load_record('chat', id, H.CHAT_FIELDS, H.CHAT_NUMBERS)
    if c then
      c.steps = H.split_steps(c.steps)
      c.asked = H.split(c.asked, H.ASKED)
      c.offers = H.split(c.offers, H.OFFER)
      c.member = string.format('%016.0f', c.seq) .. ':' .. id
    end
    H.chats[id] = c or false
  end
  return H.chats[id] or nil
end

function H.responder(id)
  if H.responders[id] == nil then
    local r = H.load_record('responder', id, H.RESPONDER_FIELDS, H.RESPONDER_NUMBERS)
    if r then
      r.holdings = H.split(r.holdings, H.HOLDING)
    end
    H.responders[id] = r or false
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

function H.flush_records()
  for _, record in ipairs(H.all_records) do
    if record.gone then
      redis.call('DEL', record.record_key)
    else
      local changes = {}
      for _, field in ipairs(record.fields) do
        local value = record[field]
        if type(value) == 'table' then value = H.list_text(record, field) end
        if value ~= record.raw[field] then
          changes[#changes + 1] = field
          changes[#changes + 1] = type(value) == 'number' and str(value) or value
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
