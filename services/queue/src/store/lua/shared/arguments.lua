-- What a script's arguments look like, by kind. A script that fails half way is not rolled back, so whatever could make
-- it fail, or leave a record that nobody can read, is refused here, before anything is read or written. No service sends
-- such arguments: they are parsed at the door. What was given is not repeated, for it may say who somebody is.
-- Masks are written without empty words at the end: the same mask is the same text, which is what lanes go by.
local function mask(text)
  return #text % 8 == 0 and #text <= 128 and not string.find(text, '[^0-9a-f]')
    and string.sub(text, -8) ~= '00000000'
end

local function whole(text, most)
  return #text <= 16 and string.find(text, '^%d+$') and tonumber(text) <= most
end

local function name(text, most, letters)
  return #text <= most and string.find(text, letters)
end

-- Whether every bit of one mask is in another; none has no bits.
local function covers(other, one)
  if one == '-' then return true end
  for at = 1, #one, 8 do
    local word = tonumber(string.sub(one, at, at + 7), 16)
    if bit.band(word, tonumber(string.sub(other, at, at + 7), 16) or 0) ~= bit.tobit(word) then return false end
  end
  return true
end

-- Alternatives, each a mask in hexadecimal or - for anyone: in order, and none that another makes needless.
local function signature(text)
  local all = {}
  for one in string.gmatch(text .. ',', '([^,]*),') do
    if #all == 8 or one == '' or not (one == '-' or mask(one)) then return false end
    for _, before in ipairs(all) do
      if before >= one or covers(one, before) or covers(before, one) then return false end
    end
    all[#all + 1] = one
  end
  return true
end

-- after_ms@signature;… where a signature may begin with =responder= for one whom the visitor would like to meet.
local function steps(text)
  local n, before = 0, -1
  for after, asks in string.gmatch(text .. ';', '(%d*)@?([^;]*);') do
    n = n + 1
    local only, rest = string.match(asks, '^=([^=]*)=(.*)$')
    if n > 8 or not whole(after, 2592000000) or tonumber(after) <= before then return false end
    if only and not name(only, 64, '^[%w_.-]+$') or not signature(rest or asks) then return false end
    before = tonumber(after)
  end
  return true
end

local function names(text)
  local n = 0
  for one in string.gmatch(text, '[^,]+') do
    n = n + 1
    if n > 4 or not name(one, 64, '^[%w_.-]+$') then return false end
  end
  return true
end

local STATUSES = { offline = true, ready = true, on_break = true, not_responding = true, leaving = true }

local KINDS = {
  chat = function(text) return name(text, 40, '^[%w_-]+$') end,
  person = function(text) return name(text, 64, '^[%w_.-]+$') end,
  nobody_or_person = function(text) return text == '' or name(text, 64, '^[%w_.-]+$') end,
  life = function(text) return name(text, 64, '^[%w_.-]+$') end,
  -- The partner and its proposal that a chat came with, or none.
  came_from = function(text)
    local from, number = string.match(text, '^([0-9a-z-]+)@(%d+)$')
    return text == '' or from and #from <= 40 and whole(number, 4294967295)
  end,
  block = function(text) return name(text, 40, '^[%w_-]+$') end,
  -- What an integrator calls the visitor, as a digest, or nothing.
  subject = function(text) return text == '' or #text == 32 and name(text, 32, '^[0-9a-f]+$') end,
  helpline = function(text) return name(text, 40, '^[0-9a-z-]+$') end,
  digest = function(text) return name(text, 64, '^[0-9a-f]+$') end,
  hash = function(text) return #text == 64 and name(text, 64, '^[0-9a-f]+$') end,
  hash_or_none = function(text) return text == '' or #text == 64 and name(text, 64, '^[0-9a-f]+$') end,
  word = function(text) return name(text, 32, '^[a-z_]+$') end,
  status = function(text) return STATUSES[text] end,
  flag = function(text) return text == '0' or text == '1' end,
  urgency = function(text) return string.find(text, '^[0-3]$') end,
  -- Numbers: exact in a double; of offers and proposals; durations of up to 30 days; loads; capability bits; a batch.
  whole = function(text) return whole(text, 9007199254740991) end,
  step = function(text) return whole(text, 7) end,
  number = function(text) return whole(text, 4294967295) end,
  ms = function(text) return whole(text, 2592000000) end,
  load = function(text) return whole(text, 20) and tonumber(text) >= 1 end,
  few = function(text) return whole(text, 512) end,
  batch = function(text) return whole(text, 100) end,
  mask = mask,
  mask_or_none = function(text) return text == '-' or mask(text) and text ~= '' end,
  signature = signature,
  steps = steps,
  people = names,
  -- Sealed content, and what seals it.
  sealed = function(text) return #text <= 16384 end,
  trace = function(text) return #text <= 64 and not string.find(text, '[^%w-]') end,
  text = function() return true end,
}

-- Kinds from ARGV[2] on.
local function takes(kinds)
  local i = 1
  for kind in string.gmatch(kinds, '[%w_]+') do
    i = i + 1
    if not ARGV[i] or not KINDS[kind](ARGV[i]) then error('argument ' .. i .. ' is not a ' .. kind) end
  end
end
