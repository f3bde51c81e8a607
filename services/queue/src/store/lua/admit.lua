#!lua flags=allow-oom
-- The partner has let go: the chat that is kept is in this line from now on.
-- Returns ok; proposal_gone.
local chat_id = ARGV[2]
local from = ARGV[3] -- the partner helpline
local number = ARGV[4] -- which proposal

local c = H.chat(chat_id)
if not c or c.came_from ~= from .. '@' .. number then return H.refuse('proposal_gone') end
if c.state == 'held' then
  H.cancel_timer('hold:' .. chat_id)
  L.accepted = L.accepted + 1
  H.happen(c, 'admit')
  H.tell_held('admitted', c)
  H.join_line(c)
  H.finish()
  H.show_wait(c)
  return H.done()
end
H.finish()
return H.done()
