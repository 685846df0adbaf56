-- Accounts of budgets, over all processes that share them. An account is a hash (what is spent and reserved, and each
-- reservation) and a sorted set (reservations by the instant at which they end). Amounts are whole numbers.
--
-- KEYS: both keys of each account. ARGV: an operation, as JSON.
-- To reserve returns, for each account, what was spent and reserved before, and whether the claim fits; if one does not,
-- nothing is reserved. A reservation that has ended leaves a mark, so that its call can still be settled, once.
-- An operation may come twice, if the answer to the first was lost, and does nothing the second time.

local op = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1e6 + tonumber(time[2])

local function text(number) return string.format('%.0f', number) end

local function expire(account, held)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', text(now))) do
    local amount = tonumber(redis.call('HGET', account, 'r:' .. id)) or 0
    redis.call('HINCRBY', account, 'held', text(-amount))
    redis.call('HSET', account, 'r:' .. id, '0')
    redis.call('ZREM', held, id)
  end
end

-- Ends the reservation of the operation's call, and returns whether there was one.
local function cancel(account, held)
  local reserved = redis.call('HGET', account, 'r:' .. op.id)
  if not reserved then return false end
  redis.call('HINCRBY', account, 'held', text(-tonumber(reserved)))
  redis.call('HDEL', account, 'r:' .. op.id)
  redis.call('ZREM', held, op.id)
  return true
end

local function reserve()
  local states, fits = {}, true
  for i, claim in ipairs(op.claims) do
    local account, held_key = KEYS[2 * i - 1], KEYS[2 * i]
    expire(account, held_key)
    cancel(account, held_key)
    local values = redis.call('HMGET', account, 'spent', 'held')
    local spent, held = tonumber(values[1]) or 0, tonumber(values[2]) or 0
    if claim.known > spent then -- the ledger is the truth
      spent = claim.known
      redis.call('HSET', account, 'spent', text(spent))
      redis.call('PEXPIRE', account, text(claim.seconds * 1000))
    end
    local has_room = spent + held + claim.amount <= claim.limit and spent + held < claim.limit
    states[i] = {spent, held, (claim.enforce and not has_room) and 1 or 0}
    fits = fits and states[i][3] == 0
  end
  for i, claim in ipairs(fits and op.claims or {}) do
    local account, held_key = KEYS[2 * i - 1], KEYS[2 * i]
    redis.call('HINCRBY', account, 'held', text(claim.amount))
    redis.call('HSET', account, 'r:' .. op.id, text(claim.amount))
    redis.call('ZADD', held_key, text(now + op.hold), op.id)
    redis.call('PEXPIRE', account, text(claim.seconds * 1000))
    redis.call('PEXPIRE', held_key, text(claim.seconds * 1000))
  end
  return states
end

local function settle()
  local last = 'u:' .. string.match(op.id, '^(.*):') -- a member settles one call after the other
  for i, used in ipairs(op.used) do
    local account, held_key = KEYS[2 * i - 1], KEYS[2 * i]
    local counts = cancel(account, held_key)
    if op.unreserved and redis.call('HGET', account, last) ~= op.id then
      redis.call('HSET', account, last, op.id)
      counts = true
    end
    if counts then
      redis.call('HINCRBY', account, 'spent', text(used))
      redis.call('PEXPIRE', account, text(op.seconds[i] * 1000))
    end
  end
  return 1
end

return op.op == 'reserve' and reserve() or settle()
