#!lua flags=allow-oom
-- A supervisor offers a chat that waits to a responder of their choice.
-- Returns ok; no_policy, unknown_chat, chat_ended, wrong_state, not_signed_in, not_available.
local by = ARGV[2] -- the supervisor
local reason = ARGV[3] -- a fixed word
local chat_id = ARGV[4]
local responder_id = ARGV[5]
local break_glass = ARGV[6] == '1' -- past capacity, requirement, status and care

if not P then return H.refuse('no_policy') end
H.by = by
local c, refused, fact = H.in_line(chat_id)
if refused then return H.refuse(refused, fact) end
local full = #c.offers >= H.MAX_FAN_OUT
local held_back = c.away == 1 or c.recovering == 1
if c.state == 'active' or held_back or full or H.offer_to(c, responder_id) then return H.refuse('wrong_state') end
local r
r, refused = H.online(responder_id)
if refused then return H.refuse(refused) end
if r.linked == 0 or H.holding_of(r, chat_id) or H.excludes(c, responder_id) then return H.refuse('not_available') end
local may = H.available(r) and H.fits_responder(H.lane_of(c), r)
if not may and not break_glass then return H.refuse('not_available') end
H.offer(c, r, reason, not may and 1 or nil)
H.finish()
return H.done()
