#!lua flags=allow-oom
-- A supervisor takes a chat from its owner back to the line.
-- Returns ok; no_policy, unknown_chat, chat_ended, wrong_state.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local chat_id = ARGV[4]

if not P then return H.refuse('no_policy') end
H.by = by
local c, refused, fact = H.in_line(chat_id)
if refused then return H.refuse(refused, fact) end
if c.owner == '' then return H.refuse('wrong_state') end
local r = H.responder(c.owner)
H.remember_asked(c, r.id)
H.return_chat(c, r, reason)
H.finish()
return H.done()
