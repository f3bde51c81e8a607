#!lua flags=allow-oom
-- Handles what is due: nobody waits on a deadline that has passed.
-- Returns ok with how many timers were handled, whether another replica ticks, and when the next is due.
local by = ARGV[2] -- which replica, as a digest
local limit = num(ARGV[3]) -- how many timers at the most

local fire = {
  offer = function(id, number)
    local c = chat(id)
    local r = c and withdraw(c, num(number))
    if not r then return end
    remember_asked(c, r.id)
    tell('missed', { chat = id, responder = r.id, offer = num(number) })
    if r.status == 'ready' then
      r.status = 'not_responding'
      r.version = r.version + 1
      settle_responder(r)
      tell_status(r, 'deadline')
    end
    hunger(id)
  end,
  presence = function(id) go_offline(responder(id), 'responder_lost') end,
  step = function(id)
    local c = chat(id)
    c.step = c.step + 1
    c.version = c.version + 1
    arm_next_step(c)
    settle_chat(c)
    tell('relaxed', { chat = id })
    hunger(id)
  end,
  wrap = function(id, chat_id) end_wrap_up(responder(id), chat_id) end,
  cool = function(id)
    local r = responder(id)
    r.cooling = 0
    r.version = r.version + 1
    settle_responder(r)
    tell('cooled_down', { responder = id })
    free(id)
  end,
  away = function(id)
    local c = chat(id)
    c.away = 1
    c.version = c.version + 1
    tell('away', { chat = id })
    rescind_all(c, 'visitor_away')
    settle_chat(c)
    set_timer('abandon:' .. id, now + P.abandon_after)
  end,
  abandon = function(id) end_chat(chat(id), 'abandoned', 'deadline') end,
  retry = function(id) hunger(id) end,
  forget = function(id)
    local c = chat(id)
    if c and c.state == 'ended' then
      c.gone = true
      redis.call('DEL', base .. 'request:' .. c.key)
      tell('forgotten', { chat = id })
    end
  end,
  gone = function(id)
    cancel_timer('cool:' .. id)
    local r = responder(id)
    if r then r.gone = true end
  end,
}

local theirs = L.ticker ~= '' and L.ticker ~= by and math.max(now - L.ticked, 0) < TICKER_LEASE_MS
local handled = 0
if not theirs then
  L.ticker, L.ticked = by, now
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', timers_key, '-inf', str(now), 'LIMIT', 0, limit)) do
    -- An earlier one of this batch may have disarmed or moved it.
    local at = timer_at(name)
    if at and at <= now then
      cancel_timer(name)
      local kind, id, more = string.match(name, '^(%l+):([^:]+):?(.*)$')
      fire[kind](id, more)
      handled = handled + 1
    end
  end
end
finish()
local due = redis.call('ZRANGE', timers_key, 0, 0, 'WITHSCORES')[2]
return reply(table.concat({ str(handled), theirs and '1' or '0', due and str(num(due)) or '-', str(now) }, ' '))
