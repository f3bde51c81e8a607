#!lua flags=allow-oom
-- A supervisor sets the urgency of a chat, up or down.
-- Returns ok; no_policy, unknown_chat, chat_ended.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local chat_id = ARGV[4]
local urgency = num(ARGV[5]) -- 0 LOW to 3 IMMINENT

if not P then return H.refuse('no_policy') end
H.by = by
local c, refused, fact = H.in_line(chat_id)
if refused then return H.refuse(refused, fact) end
if c.urgency ~= urgency then H.change_urgency(c, urgency, reason) end
H.finish()
return H.done()
