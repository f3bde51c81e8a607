#!lua flags=allow-oom
-- A responder comes, on a new device or back on the old one; the newest session wins.
-- Returns ok with the responder as they stand now; no_policy, policy_changed.
local responder_id = ARGV[2]
local caps = ARGV[3] -- mask in hexadecimal
local scarce = num(ARGV[4]) -- how many scarce capabilities are among them
local capacity = num(ARGV[5])
local ready = ARGV[6] == '1'
local revision = num(ARGV[7])

if not P then return H.refuse('no_policy') end
if revision ~= L.revision then return H.refuse('policy_changed', str(L.revision)) end
local r = H.responder(responder_id)
local as_before = r and r.caps == caps and r.capacity == capacity
if r then
  -- Out of the free ones first: the entry is found by the old values.
  r.linked = 0
  H.settle_responder(r)
else
  r = {
    id = responder_id, record_key = base .. 'responder:' .. responder_id, raw = {}, fields = H.RESPONDER_FIELDS,
    blobs = {}, session = 0, linked = 0, status = 'offline', cooling = 0, caps = caps, scarce = scarce,
    capacity = capacity, holdings = {}, rested = now, version = 0, class = '', idle_rested = 0,
  }
  H.responders[responder_id] = r
  H.all_records[#H.all_records + 1] = r
end
r.session = math.max(r.session + 1, now)
r.linked = 1
r.status = ready and 'ready' or 'on_break'
r.caps, r.scarce, r.capacity = caps, scarce, capacity
r.version = r.version + 1
redis.call('SADD', base .. 'here', responder_id)
H.cancel_timer('gone:' .. responder_id)
H.set_timer('presence:' .. responder_id, now + P.presence_lease)
H.settle_responder(r)
H.tell('signed_in', { responder = responder_id, status = r.status })
if not (ready and as_before) then H.give_back_offers(r, 'asked') end
H.free(responder_id)
H.finish()
return H.responder_view(r)
