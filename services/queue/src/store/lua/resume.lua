#!lua flags=allow-oom
-- The visitor comes back: an abandoned chat is re-opened at its old place.
-- Returns ok with the chat as its visitor may see it; unknown_chat, blocked.
local chat_id = ARGV[2]
local token = ARGV[3] -- SHA-256 of the visitor's token

local c = H.own(chat_id, token)
if not c then return H.refuse('unknown_chat') end
if c.state == 'ended' and c.outcome == 'abandoned' and c.erased == 0 then
  if H.is_blocked(H.whom(c)) then return H.refuse('blocked') end
  H.happen(c, 'reopen')
  H.cancel_timer('forget:' .. chat_id)
  c.version = c.version + 1
  H.arm_next_step(c)
  if #P.partners > 0 then H.arm_overflow(c, false) end
  H.settle_chat(c)
  H.tell('reopened', { chat = chat_id })
  H.hunger(chat_id)
end
H.touch(c)
H.finish()
return H.view(c, false)
