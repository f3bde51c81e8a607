#!lua flags=allow-oom
-- A supervisor takes a chat into their own hands; what others hold of it ends in the same step.
-- Returns ok with the assignment, and the handoff; no_policy, not_signed_in, stale_session, unknown_chat, chat_ended,
-- wrong_state.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local chat_id = ARGV[4]
local session = num(ARGV[5]) -- the supervisor's own sign-in
local reply_handoff = ARGV[6] -- sealed bytes

if not P then return H.refuse('no_policy') end
H.by = by
local r, refused = H.check_session(by, session)
if refused then return H.refuse(refused) end
local c, fact
c, refused, fact = H.in_line(chat_id)
if refused then return H.refuse(refused, fact) end
if c.away == 1 or c.recovering == 1 or H.excludes(c, by) or H.holding_of(r, chat_id) then
  return H.refuse('wrong_state')
end
if c.owner ~= '' then H.return_chat(c, H.responder(c.owner), reason) end
H.offer(c, r, reason)
H.assign(r, c, c.offers_made, reply_handoff)
H.finish()
return H.assignment(c)
