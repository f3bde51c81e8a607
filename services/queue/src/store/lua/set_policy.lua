#!lua flags=allow-oom
-- Replaces the policy, if it stands at the expected revision.
-- Returns ok with the revision in force; policy_changed.
local expected = num(ARGV[2]) -- the revision that is replaced; 0 for none
local numbers = ARGV[3] -- the numbers that decide, in the order of store/keys.rs
local document = ARGV[4] -- the whole policy, without its revision
local generation = ARGV[5] -- names this store, if nothing does yet

if L.revision ~= expected then return H.refuse('policy_changed', str(L.revision)) end
L.revision = expected + 1
local n = {}
for word in string.gmatch(numbers, '%S+') do n[#n + 1] = num(word) end
P = {
  head_start = { n[1], n[2], n[3], 0 },
  return_head_start = n[4],
  weight = { n[5], n[6], n[7], n[8] },
  fan_out = n[9],
  reserve = n[10],
  max_waiting = n[11],
  offer_deadline = n[12],
  back_off = n[13],
  min_back_off = n[14],
  presence_lease = n[15],
  reconnect_grace = n[16],
  away_after = n[17],
  abandon_after = n[18],
  wrap_up = { n[19], n[20], n[21], n[22] },
  cool_down = { n[23], n[24], n[25], n[26] },
  strain = { n[27], n[28], n[29], n[30] },
  retention = n[31],
  keep_events = n[32],
}
L.policy = cmsgpack.pack(P)
if L.generation == '' then L.generation = generation end
redis.call('SET', base .. 'policy', document)
H.tell('policy_set', {})
H.sweep = true
H.finish()
return H.reply(str(L.revision))
