#!lua flags=allow-oom
-- A chat that the store has lost is in the line again, at its old place; of any other chat it is a beat.
-- Returns ok with the chat as its visitor may see it; no_policy, unknown_chat, policy_changed, request_conflict.
local chat_id = ARGV[2]
local request_key = ARGV[3] -- digest of principal and request id
-- ARGV[4] digest of the request's body
local token = ARGV[5] -- SHA-256 of the visitor's token
-- ARGV[6] to ARGV[9], ARGV[11] to ARGV[13] as in request.lua
local revision = num(ARGV[10])
-- ARGV[14] to ARGV[28] what was sealed: life, term, moment and end of the ticket (service clock, ms), arrival (service
-- clock, ms), sequence, version, step, returned, active, offers, assignments, proposals, from which partner, subject
local sealed = H.sealed()

if not P then return H.refuse('no_policy') end
local c = H.chat(chat_id)
if c then
  if c.token ~= token or c.state == 'held' then return H.refuse('unknown_chat') end
  H.touch(c)
  H.finish()
  return H.view(c, false)
end
if revision ~= L.revision then return H.refuse('policy_changed', str(L.revision)) end
if redis.call('EXISTS', base .. 'request:' .. request_key) == 1 then return H.refuse('request_conflict') end
local node = H.this_node()
if not H.may_have_lost(sealed, node) then return H.refuse('unknown_chat') end

c = H.readmit(sealed, node, sealed.term)
H.finish()
return H.view(c, false)
