#!lua flags=allow-oom
-- Ends a chat if it lives and removes its content now.
-- Returns ok with the chat as its visitor may see it; unknown_chat.
local chat_id = ARGV[2]
local token = ARGV[3] -- SHA-256 of the visitor's token

local c = H.own(chat_id, token)
if not c then return H.refuse('unknown_chat') end
local erased = c.erased == 1
if c.state == 'active' then
  H.end_chat(c, 'completed', 'visitor')
elseif c.state ~= 'ended' then
  H.end_chat(c, 'left', 'visitor')
end
if not erased then
  H.unlink_block(c)
  c.subject = ''
  c.erased = 1
  c.version = c.version + 1
  c.blobs.handoff, c.blobs.reply = '', ''
  c.trace, c.asked, c.step = '', {}, 0
  c.excluded, c.topics = '', '-'
  c.steps = { { after = 0, signature = '-' } }
  H.tell('erased', { chat = chat_id })
end
H.finish()
return H.view(c, false)
