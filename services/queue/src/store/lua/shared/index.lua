-- Who stands where: lanes of waiting chats and classes of free responders, each with the groups ordered by their
-- heads and one set of all members. Changes wait until somebody looks, so what comes and goes within one command
-- never touches the sets.
H.LANES = { group = base .. 'lane:', heads = base .. 'lanes', all = base .. 'waiting' }
H.CLASSES = { group = base .. 'class:', heads = base .. 'classes', all = base .. 'idle' }

function H.refresh_head(index, group)
  local head = redis.call('ZRANGE', index.group .. group, 0, 0, 'WITHSCORES')
  if #head == 0 then
    redis.call('ZREM', index.heads, group)
  else
    redis.call('ZADD', index.heads, head[2], group)
  end
end

function H.note_move(index, member, from_group, from_score, to_group, to_score)
  index.moves = index.moves or {}
  local move = index.moves[member]
  if not move then
    move = { member = member, from_group = from_group, from_score = from_score }
    index.moves[member] = move
    index.moves[#index.moves + 1] = move
  end
  move.to_group, move.to_score = to_group, to_score
end

function H.apply_moves(index)
  if not index.moves then return end
  local moves = index.moves
  index.moves = nil
  for _, m in ipairs(moves) do
    local same = m.from_group == m.to_group and m.from_score == m.to_score
    if not same then
      if m.from_group ~= '' then
        redis.call('ZREM', index.group .. m.from_group, m.member)
        if m.from_group ~= m.to_group then H.refresh_head(index, m.from_group) end
        if m.to_group == '' then redis.call('ZREM', index.all, m.member) end
      end
      if m.to_group ~= '' then
        redis.call('ZADD', index.group .. m.to_group, m.to_score, m.member)
        redis.call('ZADD', index.all, m.to_score, m.member)
        H.refresh_head(index, m.to_group)
      end
    end
  end
end

function H.size(index)
  H.apply_moves(index)
  return redis.call('ZCARD', index.all)
end

-- Calls `visit(head score, group)` in order of the heads until it returns true.
function H.walk_heads(index, visit)
  H.apply_moves(index)
  local from = 0
  while true do
    local heads = redis.call('ZRANGE', index.heads, from, from + 15, 'WITHSCORES')
    for i = 1, #heads, 2 do
      if visit(num(heads[i + 1]), heads[i]) then return end
    end
    if #heads < 32 then return end
    from = from + 16
  end
end

-- Calls `visit(score, member)` for the first members of a group, to the search depth, until it returns true. The
-- first one is nearly always enough, so it is read alone.
function H.walk_members(index, group, visit)
  local key = index.group .. group
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if #first == 0 or visit(num(first[2]), first[1]) then return end
  local rest = redis.call('ZRANGE', key, 1, H.SEARCH_DEPTH - 1, 'WITHSCORES')
  for i = 1, #rest, 2 do
    if visit(num(rest[i + 1]), rest[i]) then return end
  end
end

function H.is_imminent(score) return score < -(H.IMMINENT_OFFSET / 4) end

function H.is_hard(urgency) return urgency >= 2 end

-- weight:hard:topics:requirement
function H.lane_of(c)
  local weight = c.urgency == H.IMMINENT and 1 or P.weight[c.urgency + 1] -- see `lane_of` in domain/src/line.rs
  return str(weight) .. (H.is_hard(c.urgency) and ':1:' or ':0:') .. c.topics .. ':'
    .. c.steps[c.step + 1].signature
end

-- The lane of those who came back from a ticket and are not offered yet: nobody fits it.
H.RECOVERING = 'recovering'

-- Where a chat belongs in the order of the line, or '' (domain/src/line.rs, `standing`).
function H.standing(c)
  local in_line = c.state == 'waiting' or c.state == 'offered'
  if not in_line or c.away == 1 or #c.offers >= c.fan_out then return '', '' end
  local head_start = P.head_start[c.urgency + 1] + (c.returned == 1 and P.return_head_start or 0)
  local lane = c.recovering == 1 and H.RECOVERING or H.lane_of(c)
  if c.urgency == H.IMMINENT then return lane, str(c.arrival - H.IMMINENT_OFFSET) end
  return lane, str(c.arrival - head_start)
end

function H.settle_chat(c)
  local lane, score = H.standing(c)
  if lane == c.lane and score == c.score then return end
  H.note_move(H.LANES, c.member, c.lane, c.score, lane, score)
  c.lane, c.score = lane, score
end

function H.class_of(r)
  return str(r.scarce) .. ':' .. str(H.free_of(r)) .. ':' .. str(r.capacity) .. (H.spared(r) and ':1:' or ':0:')
    .. r.opt_out .. ':' .. r.caps
end
function H.idle_score(r, rested) return r.scarce * 4398046511104 + rested end

function H.settle_responder(r)
  local class, rested = '', 0
  if H.available(r) and H.free_of(r) > 0 then class, rested = H.class_of(r), r.rested end
  if class == r.class and rested == r.idle_rested then return end
  local from = r.class ~= '' and str(H.idle_score(r, r.idle_rested)) or ''
  local to = class ~= '' and str(H.idle_score(r, rested)) or ''
  H.note_move(H.CLASSES, r.id, r.class, from, class, to)
  r.class, r.idle_rested = class, rested
end
