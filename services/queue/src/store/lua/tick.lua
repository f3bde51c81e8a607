#!lua flags=allow-oom
-- Handles what is due: nobody waits on a deadline that has passed.
-- Returns ok with how many timers were handled, whether another replica ticks, and when the next is due.
local by = ARGV[2] -- which replica, as a digest
local limit = num(ARGV[3]) -- how many timers at the most

local fire = {
  offer = function(id, number)
    local c = H.chat(id)
    local r = c and H.withdraw(c, num(number))
    if not r then return end
    H.remember_asked(c, r.id)
    H.tell('missed', { chat = id, responder = r.id, offer = num(number) })
    if r.status == 'ready' then
      r.status = 'not_responding'
      r.version = r.version + 1
      H.settle_responder(r)
      H.tell_status(r, 'deadline')
    end
    H.hunger(id)
  end,
  presence = function(id) H.go_offline(H.responder(id), 'responder_lost') end,
  step = function(id)
    local c = H.chat(id)
    c.step = c.step + 1
    c.version = c.version + 1
    H.arm_next_step(c)
    H.settle_chat(c)
    H.tell('relaxed', { chat = id })
    H.hunger(id)
  end,
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
      redis.call('DEL', base .. 'request:' .. c.key)
      H.tell('forgotten', { chat = id })
    end
  end,
  gone = function(id)
    H.cancel_timer('cool:' .. id)
    local r = H.responder(id)
    if r then r.gone = true end
  end,
}

local last = redis.call('HMGET', line_key, 'ticker', 'ticked')
was.ticker, was.ticked = last[1] or '', last[2] or ''
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
end
H.finish()
local due = redis.call('ZRANGE', timers_key, 0, 0, 'WITHSCORES')[2]
return H.reply(table.concat({ str(handled), theirs and '1' or '0', due and str(num(due)) or '-', str(now) }, ' '))
