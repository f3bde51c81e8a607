#!lua flags=allow-oom
-- The store holds an older copy of the line: it begins another life, in which what stands in the copy counts as a ticket.
-- Returns ok with the revision in force; no_policy, policy_changed.
local life_was = ARGV[2] -- the life that the copy is of
local life = ARGV[3] -- the new one
local clock = num(ARGV[4]) -- a moment that is not before anything that came after the copy, service clock, ms
local term = num(ARGV[5]) -- the highest that anybody heard of

if not P then return H.refuse('no_policy') end
if L.generation ~= life_was then return H.refuse('policy_changed', str(L.revision)) end

L.now = math.max(L.now, clock)
now = L.now
L.generation, L.recovering = life, now
H.begin_term(H.this_node(), term)
H.tell('revived', {})

-- Whom the copy knows in the line: the ones in an index, in somebody's hands, or with a timer of a visitor.
local known, found = {}, {}
local function find(id)
  if known[id] then return end
  known[id] = true
  local c = H.chat(id)
  if c and (c.state == 'waiting' or c.state == 'offered' or c.state == 'active') then found[#found + 1] = c end
end

-- The line knows nobody who was on shift, as after a loss: whoever is here signs in again, and what they held is in the
-- hands of nobody until they say so.
local function lose_sight_of(r)
  for _, h in ipairs(r.holdings) do
    if h.kind == 'wrap' then H.cancel_timer('wrap:' .. r.id .. ':' .. h.chat) else find(h.chat) end
  end
  r.linked = 0
  H.settle_responder(r)
  r.gone = true
  H.cancel_timer('shift:' .. r.id)
  H.cancel_timer('presence:' .. r.id)
  H.cancel_timer('cool:' .. r.id)
end
for _, id in ipairs(redis.call('SMEMBERS', base .. 'here')) do lose_sight_of(H.responder(id)) end
redis.call('DEL', base .. 'here')

for _, member in ipairs(redis.call('ZRANGE', H.LANES.all, 0, -1)) do find(string.sub(member, 18)) end
for _, name in ipairs(redis.call('ZRANGE', timers_key, 0, -1)) do
  local kind, id = string.match(name, '^(%l+):(.*)$')
  if kind == 'away' or kind == 'abandon' then find(id) end
end
table.sort(found, function(a, b) return a.member < b.member end)

-- Its visitor may have left, or have been helped, since: it is not offered before its visitor is heard.
local function come_back(c)
  for _, o in ipairs(c.offers) do H.cancel_timer('offer:' .. c.id .. ':' .. str(o.number)) end
  local active = c.state == 'active'
  if active then H.happen(c, 'give_back') elseif c.state == 'offered' then H.happen(c, 'last_offer_gone') end
  H.cancel_timer('reply:' .. c.id)
  H.cancel_timer('away:' .. c.id)
  H.stop_overflow(c)
  c.offers, c.blobs.reply = {}, ''
  c.owner, c.owner_offer, c.epoch, c.minted, c.since, c.engaged = '', 0, 0, 0, 0, 0
  c.returned = active and 1 or c.returned
  c.fan_out = H.fan_out_for(c.urgency)
  c.away = 1 - c.attested
  c.version = c.version + H.RESTORED_GAP
  c.offers_made = math.min(c.offers_made + H.RESTORED_GAP, 4294967295)
  if c.reclaim == 0 then c.reclaim = c.assigned + (active and 0 or 1) end
  c.recovering = now < H.recovers_at() and 1 or 0
  if c.attested == 0 then H.set_timer('abandon:' .. c.id, now + P.abandon_after) end
  H.tell('restored', { chat = c.id, urgency = c.urgency })
  H.take_place(c)
  if #P.partners > 0 then H.arm_overflow(c, false) end
end
for _, c in ipairs(found) do come_back(c) end
if #found > 0 then H.set_timer('recover:line', H.recovers_at()) end
H.finish()
return H.reply(str(L.revision))
