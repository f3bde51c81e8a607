#!lua flags=allow-oom
-- A supervisor ends a block, or the proposal of one: whoever it was of may come again.
-- Returns ok; no_policy, unknown_block.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local id = ARGV[4] -- which block

if not P then return H.refuse('no_policy') end
H.by = by
local b = H.block(id)
if not b then return H.refuse('unknown_block') end
H.remove_block(b)
H.tell_block('block_lifted', b, nil, reason)
H.finish()
return H.done()
