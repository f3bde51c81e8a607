#!lua flags=allow-oom
-- Raises the urgency of a chat; a lower one changes nothing.
-- Returns ok with the chat as its visitor may see it; unknown_chat, chat_ended.
local chat_id = ARGV[2]
local token = ARGV[3] -- SHA-256 of the visitor's token
local urgency = num(ARGV[4]) -- 0 LOW to 3 IMMINENT
local reason = ARGV[5] -- visitor or classifier

local c = H.own(chat_id, token)
if not c then return H.refuse('unknown_chat') end
if c.state == 'ended' then return H.refuse('chat_ended', c.outcome) end
if urgency > c.urgency then H.change_urgency(c, urgency, reason) end
H.finish()
return H.view(c, false)
