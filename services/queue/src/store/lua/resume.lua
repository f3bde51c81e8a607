#!lua flags=allow-oom
-- The visitor comes back: an abandoned chat is re-opened at its old place.
-- Returns ok with the chat as its visitor may see it; unknown_chat.
local chat_id = ARGV[2]
local token = ARGV[3] -- SHA-256 of the visitor's token

local c = own(chat_id, token)
if not c then return refuse('unknown_chat') end
if c.state == 'ended' and c.outcome == 'abandoned' and c.erased == 0 then
  happen(c, 'reopen')
  cancel_timer('forget:' .. chat_id)
  c.version = c.version + 1
  arm_next_step(c)
  settle_chat(c)
  tell('reopened', { chat = chat_id })
  hunger(chat_id)
end
touch(c)
finish()
return view(c, false)
