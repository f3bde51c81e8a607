#!lua
-- Accepts a chat into the line, or answers the same request again with the chat that it made.
-- Returns ok with the chat as its visitor may see it; no_policy, request_conflict, policy_changed, line_full,
-- resources_first, blocked, quota_exceeded with the milliseconds until there is room, challenge with the bits that are asked
-- for.
local chat_id = ARGV[2]
local request_key = ARGV[3] -- digest of principal and request id
local body = ARGV[4] -- digest of the request's body
-- ARGV[5] SHA-256 of the visitor's token
local urgency = num(ARGV[6]) -- 0 LOW to 3 IMMINENT
-- ARGV[7] steps: after_ms@signature;…
-- ARGV[8] topics: mask in hexadecimal, or -
-- ARGV[9] excluded responders: id,…
local revision = num(ARGV[10])
-- ARGV[11] attested: 0 or 1
-- ARGV[12] handoff: sealed bytes
-- ARGV[13] trace
local resources_seen = ARGV[14] == '1'
local overflow_now = ARGV[15] == '1' -- the helpline is closed: partners are asked at once
local subject = ARGV[16] -- what the integrator calls the visitor, as a digest, or nothing
local came_by = ARGV[17] -- SHA-256 of an earlier chat's token, when the visitor comes back by a return token of it, or nothing
local solved_bits = num(ARGV[18]) -- of the challenge that was solved for it

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
if subject ~= '' and H.is_blocked('s' .. subject) then return H.refuse('blocked') end
if came_by ~= '' and H.is_blocked('t' .. came_by) then return H.refuse('blocked') end

-- How many new chats are let in: the functions of domain/src/policy/admission.rs and domain/src/line/quotas.rs. When the
-- bucket would be full again with one less in it (service clock, us), and for how long that is too much (us).
local function take(bucket, rate)
  local later = math.max(L[bucket], now * 1000) + rate.every
  return later, later - (now * 1000 + rate.holds)
end
local bucket, full_at, too_much = nil, 0, 0
if P.admission then
  bucket = 'quota'
  if urgency == H.IMMINENT then
    full_at, too_much = take('imminent', P.admission.imminent)
    if too_much > 0 then urgency = H.HIGH else bucket = 'imminent' end
  end
  if bucket == 'quota' then full_at, too_much = take('quota', P.admission.quota) end
end

if L.waiting >= P.max_waiting and urgency ~= H.IMMINENT then return H.refuse('line_full') end
local stage = H.surge_stage()
if stage and stage.resources_first and urgency == 0 and not resources_seen then return H.refuse('resources_first') end
if too_much > 0 then return H.refuse('quota_exceeded', str(math.ceil(too_much / 1000))) end
-- Last of all: nobody works for a place that there is not. A policy that an older version packed asks for none.
local bits = stage and stage.challenge or 0
if solved_bits < bits and urgency ~= H.IMMINENT then return H.refuse('challenge', str(bits)) end

if bucket then L[bucket] = full_at end
L.accepted = L.accepted + 1
L.waiting = L.waiting + 1
local c = H.insert_chat('waiting', now, L.arrivals + 1)
c.urgency, c.fan_out = urgency, H.fan_out_for(urgency)
c.subject = subject
H.tell('requested', { chat = chat_id, urgency = urgency })
H.join_line(c)
if #P.partners > 0 then H.arm_overflow(c, overflow_now) end
H.finish()
if #c.offers == 0 then H.show_wait(c) end
return H.view(c, false)
