#!lua
-- Accepts a chat into the line, or answers the same request again with the chat that it made.
-- Returns ok with the chat as its visitor may see it; no_policy, request_conflict, policy_changed, line_full.
local chat_id = ARGV[2]
local request_key = ARGV[3] -- digest of principal and request id
local body = ARGV[4] -- digest of the request's body
local token = ARGV[5] -- SHA-256 of the visitor's token
local urgency = num(ARGV[6]) -- 0 LOW to 3 IMMINENT
local steps = ARGV[7] -- after_ms@signature;…
local revision = num(ARGV[8])
local attested = num(ARGV[9])
local handoff = ARGV[10] -- sealed bytes
local trace = ARGV[11]

if not P then return H.refuse('no_policy') end
local made = redis.call('GET', base .. 'request:' .. request_key)
if made then
  local c = H.chat(made)
  if c.body ~= body then return H.refuse('request_conflict') end
  c.replays = c.replays + 1
  H.finish()
  return H.view(c, true)
end
if revision ~= L.revision then return H.refuse('policy_changed', str(L.revision)) end
if H.chat(chat_id) then return H.refuse('request_conflict') end
if L.waiting >= P.max_waiting and urgency ~= H.IMMINENT then return H.refuse('line_full') end

L.arrivals = L.arrivals + 1
L.accepted = L.accepted + 1
L.waiting = L.waiting + 1
redis.call('SET', base .. 'request:' .. request_key, chat_id)
local c = {
  id = chat_id, record_key = base .. 'chat:' .. chat_id, raw = {}, fields = H.CHAT_FIELDS, blobs = { handoff = handoff },
  member = string.format('%016.0f', L.arrivals) .. ':' .. chat_id, state = 'waiting', urgency = urgency, arrival = now,
  seq = L.arrivals, version = 1, token = token, key = request_key, body = body, replays = 0, attested = attested,
  away = 0, erased = 0, steps = H.split_steps(steps), step = 0, returned = 0, asked = {}, offers = {}, offers_made = 0,
  assigned = 0, owner = '', owner_offer = 0, epoch = 0, minted = 0, since = 0, engaged = 0, outcome = '', ended_at = 0,
  trace = trace, lane = '', score = '',
}
H.chats[chat_id] = c
H.all_records[#H.all_records + 1] = c
if attested == 0 then H.set_timer('away:' .. chat_id, now + P.away_after) end
H.arm_next_step(c)
H.settle_chat(c)
H.tell('requested', { chat = chat_id, urgency = urgency })
H.hunger(chat_id)
H.finish()
return H.view(c, false)
