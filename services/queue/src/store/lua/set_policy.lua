#!lua flags=allow-oom
-- Replaces the policy, if it stands at the expected revision.
-- Returns ok with the revision in force; policy_changed.
local expected = num(ARGV[2]) -- the revision that is replaced; 0 for none
local numbers = ARGV[3] -- the numbers that decide, in the order of store/keys.rs
local document = ARGV[4] -- the whole policy, without its revision
local generation = ARGV[5] -- names this store, if nothing does yet

if L.revision ~= expected then return refuse('policy_changed', str(L.revision)) end
L.revision = expected + 1
L.numbers = numbers
if L.generation == '' then L.generation = generation end
redis.call('SET', base .. 'policy', document)
P = read_numbers(numbers)
tell('policy_set', {})
sweep = true
finish()
return reply(str(L.revision))
