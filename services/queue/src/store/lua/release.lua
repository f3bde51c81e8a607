#!lua flags=allow-oom
-- The partner has kept the chat: it is not kept here any more.
-- Returns ok; proposal_gone.
local chat_id = ARGV[2]
local from = ARGV[3] -- the partner helpline
local number = ARGV[4] -- which proposal

local c = H.chat(chat_id)
if c and c.came_from == from .. '@' .. number then
  if c.state ~= 'held' then return H.refuse('proposal_gone') end
  H.tell_held('released', c)
  H.cancel_timer('hold:' .. chat_id)
  c.gone = true
  redis.call('DEL', base .. 'request:' .. c.key)
end
H.finish()
return H.done()
