#!lua flags=allow-oom
-- The visitor leaves the line or the conversation.
-- Returns ok with the chat as its visitor may see it; unknown_chat.
local chat_id = ARGV[2]
local token = ARGV[3] -- SHA-256 of the visitor's token
local fallback = ARGV[4] == '1' -- takes the resources that were shown instead

local c = H.own(chat_id, token)
if not c then return H.refuse('unknown_chat') end
if c.state == 'active' then
  H.end_chat(c, 'completed', 'visitor')
elseif c.state ~= 'ended' then
  H.end_chat(c, fallback and 'fallback' or 'left', 'visitor')
end
H.finish()
return H.view(c, false)
