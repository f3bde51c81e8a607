#!lua flags=allow-oom
-- A responder comes, on a new device or back on the old one; the newest session wins.
-- Returns ok with the responder as they stand now; no_policy, policy_changed.
local responder_id = ARGV[2]
local caps = ARGV[3] -- mask in hexadecimal
local scarce = num(ARGV[4]) -- how many scarce capabilities are among them
local opt_out = ARGV[5] -- topics that they prefer not to be asked for: mask in hexadecimal, or -
local shift = num(ARGV[6]) -- how long their shift still lasts, in milliseconds; 0 when it has no stated end
local capacity = num(ARGV[7])
local ready = ARGV[8] == '1'
local revision = num(ARGV[9])

if not P then return H.refuse('no_policy') end
if revision ~= L.revision then return H.refuse('policy_changed', str(L.revision)) end
local r = H.responder(responder_id)
local as_before = r and r.caps == caps and r.capacity == capacity and r.opt_out == opt_out
local comes = not r or r.status == 'offline'
if r then
  -- Out of the free ones first: the entry is found by the old values.
  r.linked = 0
  H.settle_responder(r)
else
  r = {
    id = responder_id, record_key = base .. 'responder:' .. responder_id, raw = {}, known = H.RESPONDER,
    blobs = {}, session = 0, linked = 0, status = 'offline', cooling = 0, caps = caps, scarce = scarce,
    capacity = capacity, holdings = {}, rested = now, version = 0, class = '', idle_rested = 0,
    opt_out = opt_out, hard_row = 0, hard_shift = 0, shift_ending = 0, break_since = 0, left = 0,
  }
  H.responders[responder_id] = r
  H.all_records[#H.all_records + 1] = r
end
r.session = math.max(r.session + 1, now)
r.linked = 1
r.status = ready and 'ready' or 'on_break'
r.caps, r.scarce, r.opt_out, r.capacity = caps, scarce, opt_out, capacity
r.break_since = ready and 0 or now
if comes and r.left > 0 and now - r.left >= P.shift_gap then r.hard_row, r.hard_shift = 0, 0 end
r.version = r.version + 1
-- Hard chats end some time before a shift does.
local guarded = shift > 0 and P.shift_guard > 0
r.shift_ending = guarded and shift <= P.shift_guard and 1 or 0
if guarded and r.shift_ending == 0 then
  H.set_timer('shift:' .. responder_id, now + shift - P.shift_guard)
else
  H.cancel_timer('shift:' .. responder_id)
end
redis.call('SADD', base .. 'here', responder_id)
H.cancel_timer('gone:' .. responder_id)
H.set_timer('presence:' .. responder_id, now + P.presence_lease)
H.settle_responder(r)
H.tell('signed_in', { responder = responder_id, status = r.status })
if comes and P.min_on_shift > 0 and H.on_shift() == P.min_on_shift then
  H.tell('gate_opened', {})
  H.everyone = true
end
if not (ready and as_before) then H.give_back_offers(r, 'asked') end
H.free(responder_id)
H.finish()
return H.responder_view(r)
