#!lua flags=allow-oom
-- Replaces the policy, if it stands at the expected revision; whoever is in line stands where the new one puts them.
-- Returns ok with the revision in force; policy_changed.
local expected = num(ARGV[2]) -- the revision that is replaced; 0 for none
local decisive = ARGV[3] -- what scripts need of it, as JSON, with the names of store/keys.rs
local document = ARGV[4] -- the whole policy, without its revision
local generation = ARGV[5] -- names this life of the line, if it begins one
local by = ARGV[6] -- who puts it in force, or ''

if L.revision ~= expected then return H.refuse('policy_changed', str(L.revision)) end

-- The numbers that say where chats and responders stand.
local function order(p)
  if not p then return '' end
  return cjson.encode({ p.head_start, p.return_head_start, p.weight, p.hard_in_row, p.hard_in_shift })
end

local before = order(P)
P = cjson.decode(decisive)
-- A new policy's buckets lack no more than they hold (domain/src/line/quotas.rs).
for bucket, rate in pairs(P.admission or {}) do L[bucket] = math.min(L[bucket], now * 1000 + rate.holds) end
L.revision = expected + 1
L.policy = cmsgpack.pack(P)
if L.generation == '' then L.generation, L.recovering = generation, now end
redis.call('SET', base .. 'policy', document)
redis.call('HSET', base .. 'policies', str(L.revision), document)
redis.call('HDEL', base .. 'policies', str(L.revision - H.MAX_POLICIES))
H.by = by ~= '' and by
H.tell('policy_set', {})
if before ~= '' and before ~= order(P) then
  for _, member in ipairs(redis.call('ZRANGE', H.LANES.all, 0, -1)) do H.settle_chat(H.chat(string.sub(member, 18))) end
  for _, id in ipairs(redis.call('ZRANGE', H.CLASSES.all, 0, -1)) do H.settle_responder(H.responder(id)) end
end
H.everyone = true
H.finish()
return H.reply(str(L.revision))
