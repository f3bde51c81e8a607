#!lua flags=allow-oom
-- The visitor is there: the chat is offered (again), and its place was kept.
-- Returns ok with the chat as its visitor may see it; unknown_chat.
local chat_id = ARGV[2]
local token = ARGV[3] -- SHA-256 of the visitor's token

local c = H.own(chat_id, token)
if not c then return H.refuse('unknown_chat') end
H.touch(c)
H.finish()
return H.view(c, false)
