#!lua flags=allow-oom
-- The store has lost the line: it begins another life under the last policy, and whoever was in it can come back.
-- Returns ok with the revision in force; policy_changed.
local revision = num(ARGV[2]) -- of the policy, as it was
local decisive = ARGV[3] -- as in set_policy.lua
local document = ARGV[4] -- the whole policy, without its revision
local generation = ARGV[5] -- names this life of the line
local clock = num(ARGV[6]) -- the service clock as last seen, in milliseconds; 0 when nobody knows

if P then return H.refuse('policy_changed', str(L.revision)) end

P = cjson.decode(decisive)
-- Nothing is measured on this clock yet. Tickets are, on the old one: it goes on from where it stood, a moment later than
-- anybody arrived.
if clock > 0 then L.now = clock + 1 end
now = L.now
L.revision = revision
L.policy = cmsgpack.pack(P)
if L.generation == '' then L.generation, L.recovering = generation, now end
redis.call('SET', base .. 'policy', document)
redis.call('HSET', base .. 'policies', str(L.revision), document)
H.tell('revived', {})
H.finish()
return H.reply(str(L.revision))
