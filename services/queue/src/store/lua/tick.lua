#!lua flags=allow-oom
-- Handles what is due: nobody waits on a deadline that has passed.
-- Returns ok with how many timers were handled, whether another replica ticks, and when the next is due; no_policy.
local by = ARGV[2] -- which replica, as a digest
local limit = num(ARGV[3]) -- how many timers at the most

if not P then return H.refuse('no_policy') end

local fire = {
  offer = function(id, number)
    local c = H.chat(id)
    local r = c and H.withdraw(c, num(number))
    if not r then return end
    H.remember_asked(c, r.id)
    H.tell('missed', { chat = id, responder = r.id, offer = num(number) })
    H.delivery_failed(c)
    H.not_responding(r, 'deadline')
    H.hunger(id)
  end,
  presence = function(id) H.go_offline(H.responder(id), 'responder_lost') end,
  step = function(id) H.relax(H.chat(id)) end,
  wrap = function(id, chat_id) H.end_wrap_up(H.responder(id), chat_id) end,
  cool = function(id)
    local r = H.responder(id)
    r.cooling = 0
    r.version = r.version + 1
    H.settle_responder(r)
    H.tell('cooled_down', { responder = id })
    H.free(id)
  end,
  away = function(id)
    local c = H.chat(id)
    c.away = 1
    c.version = c.version + 1
    H.tell('away', { chat = id })
    H.rescind_all(c, 'visitor_away')
    H.settle_chat(c)
    H.set_timer('abandon:' .. id, now + P.abandon_after)
  end,
  abandon = function(id) H.end_chat(H.chat(id), 'abandoned', 'deadline') end,
  retry = function(id) H.hunger(id) end,
  forget = function(id)
    local c = H.chat(id)
    if c and c.state == 'ended' then
      c.gone = true
      H.delivery_done(c) -- an older version that ended it left the mark
      H.unlink_block(c)
      redis.call('DEL', base .. 'request:' .. c.key)
      H.tell('forgotten', { chat = id })
    end
  end,
  gone = function(id)
    H.cancel_timer('cool:' .. id)
    local r = H.responder(id)
    if r then r.gone = true end
  end,
  reply = function(id)
    local c = H.chat(id)
    if not c or c.owner == '' then return end
    local r = H.responder(c.owner)
    H.not_responding(r, 'no_reply')
    H.remember_asked(c, r.id)
    H.return_chat(c, r, 'no_reply')
  end,
  overflow = function(id)
    local c = H.chat(id)
    if #P.partners == 0 then return end
    if c.away == 1 then return H.set_timer('overflow:' .. id, now + P.overflow_retry) end
    local partner, till = P.partners[c.proposals % #P.partners + 1], now + P.overflow_answer
    c.proposals = c.proposals + 1
    c.partner = partner
    H.set_timer('proposal:' .. id, till)
    H.tell('overflowing', { chat = id, urgency = c.urgency, partner = partner, number = c.proposals, till = till })
  end,
  proposal = function(id) H.proposal_refused(H.chat(id), 'deadline') end,
  hold = function(id)
    H.set_timer('hold:' .. id, now + H.ASK_AGAIN)
    H.tell_held('hold_due', H.chat(id))
  end,
  shift = function(id)
    local r = H.responder(id)
    r.shift_ending = 1
    r.version = r.version + 1
    H.settle_responder(r)
    H.tell('shift_ending', { responder = id })
  end,
  page = function()
    local stage = H.surge_stage()
    if not stage or H.on_shift() >= stage.page_until or L.waves >= stage.page_waves then return end
    L.waves = L.waves + 1
    H.set_timer('page:line', now + stage.page_every)
    H.tell('paging', { number = L.waves })
  end,
  reroutes = function()
    local kept = {}
    for one, other, till in string.gmatch(L.reroutes, '([^>;]+)>([^@]+)@(%d+)') do
      if num(till) > now then
        kept[#kept + 1] = one .. '>' .. other .. '@' .. till
      else
        H.tell('reroute_ended', { reason = 'deadline' })
      end
    end
    L.reroutes = table.concat(kept, ';')
    H.arm_reroutes()
    H.everyone = true
  end,
  block = function(id)
    local b = H.block(id)
    if not b then return end
    H.remove_block(b)
    H.tell_block(b.confirmed_by ~= '' and 'block_expired' or 'block_lapsed', b, nil, 'deadline')
  end,
  recover = function()
    local till = H.recovers_at()
    if now < till then return H.set_timer('recover:line', till) end
    H.apply_moves(H.LANES)
    local lane = H.LANES.group .. H.RECOVERING
    for _, member in ipairs(redis.call('ZRANGE', lane, 0, H.RECOVER_BATCH - 1)) do
      local c = H.chat(string.sub(member, 18))
      c.recovering = 0
      H.settle_chat(c)
      if #P.partners > 0 then H.arm_overflow(c, false) end
      H.hunger(c.id)
    end
    H.apply_moves(H.LANES)
    if redis.call('EXISTS', lane) == 1 then H.set_timer('recover:line', now) end
  end,
}

local function enter_stage(stage)
  L.stage, L.calm, L.waves = stage, 0, 0
  H.cancel_timer('page:line')
  local entered = H.surge_stage()
  if entered and entered.page_until > 0 then H.set_timer('page:line', now) end
  H.tell('surge', { number = stage })
end

-- Stages begin at once and end with patience (domain/src/line/surge.rs).
local function weigh_load()
  if not P or (#P.surge == 0 and L.stage == 0) then return end
  local load, reached = math.floor((L.waiting + L.offered) * 100 / math.max(H.on_shift(), 1)), 0
  for i, stage in ipairs(P.surge) do
    if load >= stage.enter then reached = i end
  end
  if L.stage > #P.surge then return enter_stage(#P.surge) end
  if reached > L.stage then return enter_stage(reached) end
  local stage = H.surge_stage()
  if not stage then return end
  if load > stage.leave then
    L.calm = 0
  elseif L.calm == 0 then
    L.calm = now
  elseif now - L.calm >= stage.hold then
    enter_stage(L.stage - 1)
  end
end

-- What was told longer ago than the policy keeps is gone; the embedded store does the same (store/memory.rs). So many at
-- a tick bound it. A policy that an older version packed has no such number, and a user of an older file may not trim.
local MAX_TRIMMED = 500
local function forget_events()
  local key, till = base .. 'events', now - (P.keep_events_ms or 172800000)
  local function told(event) return num(string.match(event[2][2], ' a=(%d+)')) end
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if not oldest or told(oldest) > till then return end
  local events = redis.call('XRANGE', key, '-', '+', 'COUNT', MAX_TRIMMED)
  local gone = 0
  while events[gone + 1] and told(events[gone + 1]) <= till do gone = gone + 1 end
  if gone < #events then return redis.pcall('XTRIM', key, 'MINID', events[gone + 1][1]) end
  local _, term, sequence = string.find(events[gone][1], '^(%d+)-(%d+)$')
  redis.pcall('XTRIM', key, 'MINID', term .. '-' .. str(num(sequence) + 1))
end

H.prefetch({ 'ticker', 'ticked', 'stage', 'calm' })
local theirs = was.ticker ~= '' and was.ticker ~= by and math.max(now - num(was.ticked), 0) < H.TICKER_LEASE_MS
local handled = 0
if not theirs then
  L.ticker, L.ticked = by, now
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', timers_key, '-inf', str(now), 'LIMIT', 0, limit)) do
    -- An earlier one of this batch may have disarmed or moved it.
    local at = H.timer_at(name)
    if at and at <= now then
      H.cancel_timer(name)
      local kind, id, more = string.match(name, '^(%l+):([^:]+):?(.*)$')
      fire[kind](id, more)
      handled = handled + 1
    end
  end
  weigh_load()
end
H.finish()
if not theirs then forget_events() end
local due = redis.call('ZRANGE', timers_key, 0, 0, 'WITHSCORES')[2]
return H.reply(table.concat({ str(handled), theirs and '1' or '0', due and str(num(due)) or '-', str(now) }, ' '))
