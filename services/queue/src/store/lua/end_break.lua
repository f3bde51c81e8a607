#!lua flags=allow-oom
-- A supervisor ends a responder's break, or their not responding.
-- Returns ok; no_policy, not_signed_in, wrong_state.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local responder_id = ARGV[4]

if not P then return H.refuse('no_policy') end
H.by = by
local r, refused = H.online(responder_id)
if refused then return H.refuse(refused) end
local resting = r.status == 'on_break' or r.status == 'not_responding'
if r.linked == 0 or not resting then return H.refuse('wrong_state') end
H.become_ready(r, reason)
H.finish()
return H.done()
