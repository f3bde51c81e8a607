#!lua flags=allow-oom
-- The responder turns an offer down; it costs the chat nothing.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, offer_gone.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local chat_id = ARGV[4]
local number = num(ARGV[5]) -- which offer of the chat
local reason = ARGV[6] -- a fixed word

local r, refused = check_session(responder_id, session)
if refused then return refuse(refused) end
local c = chat(chat_id)
local o = c and offer_to(c, responder_id)
if not o or o.number ~= number then return refuse('offer_gone') end
withdraw(c, number)
remember_asked(c, responder_id)
tell('declined', { chat = chat_id, responder = responder_id, offer = number, reason = reason })
hunger(chat_id)
finish()
return responder_view(r)
