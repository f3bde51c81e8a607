#!lua flags=allow-oom
-- The connection of a session broke: offers go on to others now, assignments after the grace.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session.
local responder_id = ARGV[2]
local session = num(ARGV[3])

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
local grace = now + P.reconnect_grace
local lease = math.min(H.timer_at('presence:' .. responder_id) or grace, grace)
H.set_timer('presence:' .. responder_id, lease)
r.linked = 0
r.version = r.version + 1
H.settle_responder(r)
H.tell('unlinked', { responder = responder_id, till = lease })
H.give_back_offers(r, 'responder_lost')
H.finish()
return H.responder_view(r)
