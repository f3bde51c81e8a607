#!lua flags=allow-oom
-- The responder declares ready, on_break or leaving.
-- Returns ok with the responder as they stand now; not_signed_in, stale_session, status_not_allowed.
local responder_id = ARGV[2]
local session = num(ARGV[3])
local status = ARGV[4]

local r, refused = H.check_session(responder_id, session)
if refused then return H.refuse(refused) end
if status == 'offline' or status == 'not_responding' then return H.refuse('status_not_allowed') end
if r.status ~= status then
  local empty_handed = #r.holdings == 0
  if status == 'ready' then
    H.become_ready(r, 'asked')
  else
    r.status = status
    r.break_since = status == 'on_break' and now or 0
    r.version = r.version + 1
    H.settle_responder(r)
    H.tell_status(r, 'asked')
    H.give_back_offers(r, 'asked')
  end
  if status == 'leaving' and empty_handed then H.go_offline(r, 'asked') end
end
H.finish()
return H.responder_view(r)
