#!lua flags=allow-oom
-- What became of calling up off-shift volunteers.
-- Returns ok; no_policy.
local wave = num(ARGV[2])
local delivered = ARGV[3] == '1'

if not P then return H.refuse('no_policy') end
H.tell(delivered and 'paged' or 'page_failed', { number = wave })
H.finish()
return H.done()
