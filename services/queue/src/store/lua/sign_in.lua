#!lua flags=allow-oom
-- A responder comes, on a new device or back on the old one; the newest session wins.
-- Returns ok with the responder as they stand now; no_policy, policy_changed.
local responder_id = ARGV[2]
local caps = ARGV[3] -- mask in hexadecimal
local scarce = num(ARGV[4]) -- how many scarce capabilities are among them
local capacity = num(ARGV[5])
local ready = ARGV[6] == '1'
local revision = num(ARGV[7])

if not P.known then return refuse('no_policy') end
if revision ~= L.revision then return refuse('policy_changed', str(L.revision)) end
local r = responder(responder_id)
local as_before = r and r.caps == caps and r.capacity == capacity
if r then
  -- Out of the free ones first: the entry is found by the old values.
  r.linked = 0
  settle_responder(r)
else
  r = {
    id = responder_id, record_key = base .. 'responder:' .. responder_id, raw = {}, fields = RESPONDER_FIELDS,
    blobs = {}, session = 0, linked = 0, status = 'offline', cooling = 0, caps = caps, scarce = scarce,
    capacity = capacity, holdings = {}, rested = now, version = 0, class = '', idle_rested = 0,
  }
  responders[responder_id] = r
  all_records[#all_records + 1] = r
end
r.session = math.max(r.session + 1, now)
r.linked = 1
r.status = ready and 'ready' or 'on_break'
r.caps, r.scarce, r.capacity = caps, scarce, capacity
r.version = r.version + 1
redis.call('SADD', base .. 'here', responder_id)
cancel_timer('gone:' .. responder_id)
set_timer('presence:' .. responder_id, now + P.presence_lease)
settle_responder(r)
tell('signed_in', { responder = responder_id, status = r.status })
if not (ready and as_before) then give_back_offers(r, 'asked') end
free(responder_id)
finish()
return responder_view(r)
