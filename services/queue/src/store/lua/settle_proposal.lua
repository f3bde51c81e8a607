#!lua flags=allow-oom
-- What a partner said to a proposal; if it keeps the chat, this line lets go of it, unless somebody here has it.
-- Returns ok; proposal_gone.
local chat_id = ARGV[2]
local to = ARGV[3] -- the partner helpline
local number = num(ARGV[4]) -- which proposal
local taken = ARGV[5] == '1'

local c = H.chat(chat_id)
if not c or c.partner ~= to or c.proposals ~= number then return H.refuse('proposal_gone') end
if c.state == 'waiting' or c.state == 'offered' then
  if taken then
    H.end_chat(c, 'overflowed', 'partner')
    c.partner = to
  else
    H.proposal_refused(c, 'partner')
  end
elseif c.outcome ~= 'overflowed' or not taken then
  return H.refuse('proposal_gone')
end
H.finish()
return H.done()
