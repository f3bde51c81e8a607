#!lua flags=allow-oom
-- The responder turns an offer down; it costs the chat nothing.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, offer_gone.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]
local number = num(ARGV[5]) -- which offer of the chat
local reason = ARGV[6] -- a fixed word

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
local c = H.chat(chat_id)
local o = c and H.offer_to(c, responder_id)
if not o or o.number ~= number then return H.refuse('offer_gone') end
H.withdraw(c, number)
H.remember_asked(c, responder_id)
H.tell('declined', { chat = chat_id, responder = responder_id, offer = number, reason = reason })
H.hunger(chat_id)
H.finish()
return H.responder_view(r)
