#!lua flags=allow-oom
-- A supervisor ends a chat: in the line as fallback, active as completed, either as blocked.
-- Returns ok; no_policy, unknown_chat, chat_ended, wrong_state.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local chat_id = ARGV[4]
local outcome = ARGV[5]

if not P then return H.refuse('no_policy') end
H.by = by
local c, refused, fact = H.in_line(chat_id)
if refused then return H.refuse(refused, fact) end
local usual = c.state == 'active' and 'completed' or 'fallback'
if outcome ~= 'blocked' and outcome ~= usual then return H.refuse('wrong_state') end
H.end_chat(c, outcome, reason)
H.finish()
return H.done()
