-- One pool of a limit: requests, tokens, slots and pauses, over all processes that share it.
--
-- KEYS: the state (a hash), the queue (tickets by their number), the leases (attempts under way, by the instant at
-- which they end), the members (by the instant at which they last called), and one window for each rate (grains of
-- time, by their last admission). All are of one hash slot, and each holds something as long as the pool exists, so that
-- a missing key shows that data were lost.
-- ARGV: the pool's settings, the epoch that the caller knows ("" for none), and a list of operations; JSON each.
--
-- Returns, as JSON, the epoch, the instant, what of the pool is to be shown, the caller's tickets that were admitted, how soon the
-- first ticket may pass if it is the caller's (microseconds; -1 if it is not, or nobody can tell), and the operations'
-- results.
-- Every instant is of this server's clock, in microseconds.

local state_key, queue_key, lease_key, member_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local settings, known_epoch, operations = cjson.decode(ARGV[1]), ARGV[2], cjson.decode(ARGV[3])
local NEVER = 2 ^ 52
local MOST_ADMITTED = 200 -- at a time
local FIRST_PAUSE, LONGEST_PAUSE = 1e6, 30e6 -- after a rate limit without Retry-After; doubles while it goes on
local LEARNING = 0.2
local MINUTE = 60e6
local CALM = 10e6 -- after a cut of an adaptive concurrency limit, in which nothing changes
local MOST_SLOTS, FIRST_SLOTS = 256, 4

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1e6 + tonumber(time[2])
local rates, by_key = settings.rates, {}
for i, rate in ipairs(rates) do
  rate.window, rate.grains = KEYS[4 + i], 'a:' .. rate.key .. ':'
  by_key[rate.key] = rate
end

local function text(number) return string.format('%.0f', number) end

local function publish(channel, message) redis.pcall('PUBLISH', settings.prefix .. ':' .. channel, message) end

local function announce(message) publish('all', settings.pool .. '\n' .. message) end

-- the state ---------------------------------------------------------------------------------------------------------

local state, claims -- the state is one packed field of its key: reading thirty fields would take longer than all else

local function begin()
  -- Nothing is known of what was admitted before. Where data were lost, those who admitted it say so in a moment.
  redis.call('DEL', unpack(KEYS))
  for i = 2, #KEYS do redis.call('ZADD', KEYS[i], '+inf', '@') end
  announce('lost')
  return {epoch = settings.member .. '/' .. text(now), now = now, sequence = 0, renew_after = 0, paused_until = 0,
    paused_at = 0, pauses = 0, size = 0, starting = 0, cut = 0, head = '', head_at = 0, lease_ends = NEVER * 2, rates = {},
    claims = {}, admit_after = known_epoch ~= '' and now + settings.grace or 0}
end

-- Returns whether keys are missing that were there; the window of a rate that is new to the pool is made.
local function has_lost_data(known)
  if redis.call('EXISTS', state_key, queue_key, lease_key, member_key) < 4 then return true end
  for _, rate in ipairs(rates) do
    if redis.call('EXISTS', rate.window) == 0 then
      if known.rates[rate.key] then return true end
      redis.call('ZADD', rate.window, '+inf', '@')
    end
  end
  return false
end

local function load()
  local packed = redis.call('HGET', state_key, 'state')
  state = packed and cmsgpack.unpack(packed)
  if not state or (redis.call('EXISTS', unpack(KEYS)) < #KEYS and has_lost_data(state)) then state = begin() end
  claims = state.claims
  for _, rate in ipairs(rates) do
    local known = state.rates[rate.key]
      or {used = 0, total = 0, level = 0, level_at = now, queued = 0, reserved = 0, oldest = 0, learning = 1,
        share = rate.what == 'requests' and 1 or 0}
    state.rates[rate.key] = known
    for name, value in pairs(known) do rate[name] = value end
  end
  now = math.max(now, state.now) -- a server whose clock is set back, or a replica that takes over, goes on from there
  state.now = now
end

local function save()
  for _, rate in ipairs(rates) do
    local known = state.rates[rate.key]
    for name in pairs(known) do known[name] = rate[name] end
  end
  if now >= state.renew_after then
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, text(settings.ttl / 1000)) end
    state.renew_after = now + settings.ttl / 4
  end
  redis.call('HSET', state_key, 'state', cmsgpack.pack(state))
end

-- rates -------------------------------------------------------------------------------------------------------------

local function forget(rate)
  rate.level = math.max(0, rate.level - (now - rate.level_at) * rate.limit / rate.period)
  rate.level_at = now
  if rate.oldest > now - rate.span then return end -- by a bound of when the oldest part ended
  local over = redis.call('ZRANGEBYSCORE', rate.window, '-inf', text(now - rate.span))
  if #over > 0 then
    local fields = {}
    for i, grain in ipairs(over) do fields[i] = rate.grains .. grain end
    for _, amount in ipairs(redis.call('HMGET', state_key, unpack(fields))) do
      rate.used = rate.used - (tonumber(amount) or 0)
    end
    redis.call('HDEL', state_key, unpack(fields))
    redis.call('ZREMRANGEBYSCORE', rate.window, '-inf', text(now - rate.span))
  end
  local first = redis.call('ZRANGE', rate.window, 0, 0, 'WITHSCORES')
  rate.oldest = first[1] == '@' and now or tonumber(first[2])
end

local function add(rate, amount, at)
  local grain = text(math.floor(at / rate.grain))
  redis.call('ZADD', rate.window, 'GT', text(at), grain)
  redis.call('HINCRBY', state_key, rate.grains .. grain, text(amount))
  rate.used, rate.oldest = rate.used + amount, math.min(rate.oldest, at)
  return grain
end

local function give_back(rate, grain, amount)
  if amount > 0 and redis.call('HEXISTS', state_key, rate.grains .. grain) == 1 then
    redis.call('HINCRBY', state_key, rate.grains .. grain, text(-amount))
    rate.used, rate.level = rate.used - amount, math.max(0, rate.level - amount)
  end
end

local function window_wait(rate, amount)
  local over, first = rate.used + amount - rate.limit, 0
  while over > 0 do
    local grains = redis.call('ZRANGE', rate.window, first, first + 49, 'WITHSCORES')
    local fields, ends = {}, {}
    for i = 1, #grains, 2 do
      if grains[i] ~= '@' then
        fields[#fields + 1], ends[#ends + 1] = rate.grains .. grains[i], tonumber(grains[i + 1])
      end
    end
    if #fields == 0 then return rate.span * math.ceil(over / rate.limit) end
    for i, held in ipairs(redis.call('HMGET', state_key, unpack(fields))) do
      over = over - (tonumber(held) or 0)
      if over <= 0 then return math.max(1, ends[i] + rate.span - now) end
    end
    first = first + 50
  end
  return 0
end

local function bucket_wait(rate, amount, ahead)
  if rate.burst < 0 then return 0 end
  local missing = rate.level + ahead + math.min(amount, rate.burst) - rate.burst
  return missing > 1e-6 and math.ceil(missing * rate.period / rate.limit) or 0
end

-- A claim is what a vendor said is left: no more passes until it is over, but for one attempt now and then, whose answer
-- may bring news.
local function is_full(claim, amount) return now < claim.over and claim.consumed + amount > claim.left end

local function claim_wait(rate, amount)
  local wait = 0
  for _, claim in pairs(claims[rate.key] or {}) do
    if is_full(claim, amount) then wait = math.max(wait, math.min(claim.over, claim.probed + claim.probe_after) - now) end
  end
  return wait
end

local function take(rate, amount)
  rate.total = rate.total + amount
  local is_probe = false
  for _, claim in pairs(claims[rate.key] or {}) do
    is_probe = is_probe or is_full(claim, amount)
    claim.consumed, claim.probed = claim.consumed + amount, now
  end
  if rate.burst >= 0 then rate.level = rate.level + amount end
  rate.reserved = rate.reserved + amount
  return {add(rate, amount, now), amount, rate.total, is_probe and 1 or 0}
end

-- slots -------------------------------------------------------------------------------------------------------------

local taken

local function slots()
  if settings.slots ~= 'auto' then return settings.slots < 0 and NEVER or settings.slots end
  if state.size == 0 then state.size, state.starting = FIRST_SLOTS, 1 end
  return math.floor(state.size)
end

local function resize(size) state.size = math.min(MOST_SLOTS, math.max(1, size)) end

local function adapt(began, answered, limited)
  if settings.slots ~= 'auto' then return end
  local free = taken < slots()
  if state.cut > 0 and (began <= state.cut or now < state.cut + CALM) then return end
  if answered and not free then resize(state.size + (state.starting == 1 and 1 or 1 / state.size)) end
  if limited then
    resize(math.min(state.size, taken) / 2)
    state.starting, state.cut = 0, now
  end
end

-- attempts ----------------------------------------------------------------------------------------------------------

local waiting
local has_room = true -- since the first ticket was last looked at, something was given back
local admitted = {} -- the caller's

local function ready_in(needs)
  if taken >= slots() then return NEVER end
  local wait = math.max(0, state.paused_until - now, state.admit_after - now)
  for _, rate in ipairs(rates) do
    local amount = needs[rate.key] or 0
    wait = math.max(wait, window_wait(rate, amount), bucket_wait(rate, amount, 0), claim_wait(rate, amount))
  end
  return wait
end

local function admit(id, needs, source)
  local holds = {}
  for _, rate in ipairs(rates) do holds[rate.key] = take(rate, needs[rate.key] or 0) end
  redis.call('HSET', state_key, 'l:' .. id, cmsgpack.pack({began = now, holds = holds, source = source}))
  redis.call('ZADD', lease_key, text(now + settings.lease), id)
  state.lease_ends = math.min(state.lease_ends, now + settings.lease)
  taken = taken + 1
end

local function drop_ticket(id)
  local record = redis.call('HGET', state_key, 't:' .. id)
  redis.call('ZREM', queue_key, id)
  redis.call('HDEL', state_key, 't:' .. id)
  waiting = waiting - 1
  local ticket = record and cmsgpack.unpack(record) or {needs = {}, member = ''}
  for key, amount in pairs(ticket.needs) do
    if by_key[key] then by_key[key].queued = math.max(0, by_key[key].queued - amount) end
  end
  return ticket
end

local function first_ticket()
  while waiting > 0 do
    local id = redis.call('ZRANGE', queue_key, 0, 0)[1]
    local record = redis.call('HGET', state_key, 't:' .. id)
    local ticket = record and cmsgpack.unpack(record)
    local seen = ticket and tonumber(redis.call('ZSCORE', member_key, ticket.member) or nil)
    if seen and seen >= now - settings.patience then return id, ticket end
    drop_ticket(id) -- its process is gone
  end
end

local function admit_first()
  local others, count = {}, 0
  has_room = false
  while waiting > 0 and count < MOST_ADMITTED do
    local id, ticket = first_ticket()
    if not id or ready_in(ticket.needs) > 0 then break end
    drop_ticket(id)
    admit(id, ticket.needs, ticket.source)
    count = count + 1
    if ticket.member == settings.member then admitted[#admitted + 1] = id
    else others[ticket.member] = (others[ticket.member] or '') .. '\n' .. id end
  end
  for member, ids in pairs(others) do publish(member, settings.pool .. '\nadmitted\n' .. text(now) .. ids) end
end

local function end_lease(id, record)
  record = record or redis.call('HGET', state_key, 'l:' .. id)
  local was_held = redis.call('ZREM', lease_key, id)
  taken = taken - was_held
  has_room = has_room or was_held == 1
  if not record then return nil end
  redis.call('HDEL', state_key, 'l:' .. id)
  local lease = cmsgpack.unpack(record)
  for key, hold in pairs(lease.holds) do
    if by_key[key] then by_key[key].reserved = math.max(0, by_key[key].reserved - hold[2]) end
  end
  return lease
end

local function expire_leases()
  if now < state.lease_ends then return end -- by a bound of when the first one ends
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', lease_key, '-inf', text(now))) do end_lease(id) end
  state.lease_ends = math.min(NEVER * 2, tonumber(redis.call('ZRANGE', lease_key, 0, 0, 'WITHSCORES')[2]))
end

-- operations --------------------------------------------------------------------------------------------------------

-- Returns why an attempt need not wait, as a code, the number of a rate (0: none) and the wait, or nil.
local function rejection(op)
  if op.time_left < 0 and op.wait_budget < 0 then return nil end
  local pause, waits = math.max(0, state.paused_until - now), {}
  local longest = pause
  for i, rate in ipairs(rates) do
    local amount = op.needs[rate.key] or 0
    local ahead = rate.queued * rate.share - rate.reserved * (1 - rate.share)
    waits[i] = math.max(window_wait(rate, amount + ahead), claim_wait(rate, amount), bucket_wait(rate, amount, ahead))
    longest = math.max(longest, waits[i])
  end
  if op.time_left >= 0 and longest > op.time_left then return 'late', 0, longest end
  if op.wait_budget < 0 then return nil end
  if pause > op.wait_budget then return 'paused', 0, pause end
  for i, rate in ipairs(rates) do
    local told = claim_wait(rate, op.needs[rate.key] or 0)
    if told > op.wait_budget then return 'told', i, told end
    if rate.period > MINUTE and waits[i] > op.wait_budget then return 'quota', i, waits[i] end
  end
end

local function acquire(op)
  if redis.call('ZSCORE', lease_key, op.id) then return {'held', 0, 0} end
  if has_room then admit_first() end
  if waiting == 0 and ready_in(op.needs) <= 0 then
    admit(op.id, op.needs, op.source)
    return {'held', 0, 0}
  end
  if op.max_queue >= 0 and waiting >= op.max_queue then return {'full', 0, waiting} end
  local code, number, wait = rejection(op)
  if code then return {code, number, wait} end
  state.sequence = state.sequence + 1
  redis.call('ZADD', queue_key, state.sequence, op.id)
  redis.call('HSET', state_key, 't:' .. op.id,
    cmsgpack.pack({member = settings.member, needs = op.needs, source = op.source}))
  for key, amount in pairs(op.needs) do
    if by_key[key] then by_key[key].queued = by_key[key].queued + amount end
  end
  waiting = waiting + 1
  return {'queued', 0, 0}
end

local function pause(began, retry_after)
  if retry_after < 0 then
    if began <= state.paused_at then return end -- it was under way when the last pause began, and says nothing new
    retry_after = math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ state.pauses)
    state.pauses = state.pauses + 1
  end
  state.paused_at = now
  if now + retry_after > state.paused_until then
    state.paused_until = now + retry_after
    announce('paused\n' .. text(retry_after))
  end
end

local function hear(source, holds, told, retry_after)
  for key, claim in pairs(told) do
    local rate, hold = by_key[key], holds[key]
    if rate and hold then
      claims[key] = claims[key] or {}
      local last = claims[key][source]
      if not last or last.over <= now or last.number <= hold[3] then
        claims[key][source] = {left = claim[1], over = now + claim[2], number = hold[3], probed = now,
          probe_after = retry_after < 0 and MINUTE or retry_after, consumed = rate.total - hold[3]}
      end
    end
  end
end

local function settle_rate(rate, hold, op, source)
  local claim = (claims[rate.key] or {})[source]
  local used = op.sent and op.used and op.used[rate.key] or nil
  if not op.sent then used = 0 end
  if used and op.sent and rate.what ~= 'requests' and hold[2] > 0 then
    rate.share = rate.share + (math.min(1, used / hold[2]) - rate.share) * rate.learning
    rate.learning = LEARNING
  end
  if used and used < hold[2] then
    give_back(rate, hold[1], hold[2] - used)
    for _, other in pairs(claims[rate.key] or {}) do
      if hold[3] > other.number then other.consumed = other.consumed - (hold[2] - used) end
    end
  elseif used and used > hold[2] then
    local beyond = used - hold[2]
    add(rate, beyond, now)
    if rate.burst >= 0 then rate.level = rate.level + beyond end
    for _, other in pairs(claims[rate.key] or {}) do other.consumed = other.consumed + beyond end
  end
  -- It was answered although the vendor had said that nothing is left.
  if op.answered and hold[4] == 1 and claim and hold[3] > claim.number then claims[rate.key][source] = nil end
end

local function settle(op)
  local record = redis.call('HGET', state_key, 'l:' .. op.id)
  local began = record and cmsgpack.unpack(record).began or now
  if op.answered and began > state.paused_at then state.pauses = 0 end
  if record then adapt(began, op.answered, op.limited) end
  if op.limited then pause(began, op.retry_after) end
  local lease = end_lease(op.id, record)
  if not lease then return 0 end
  for key, hold in pairs(lease.holds) do
    if by_key[key] then settle_rate(by_key[key], hold, op, lease.source) end
  end
  if op.told then hear(lease.source, lease.holds, op.told, op.retry_after) end
  return 1
end

local function headers(op)
  local record = redis.call('HGET', state_key, 'l:' .. op.id)
  if not record then return 0 end
  local lease = cmsgpack.unpack(record)
  hear(lease.source, lease.holds, op.told, -1)
  return 1
end

-- The request of an attempt was written long after it was admitted: it counts from now on.
local function delayed(op)
  local record = redis.call('HGET', state_key, 'l:' .. op.id)
  if not record then return 0 end
  local lease = cmsgpack.unpack(record)
  for key, hold in pairs(lease.holds) do
    local rate = by_key[key]
    if rate and hold[2] > 0 then
      local level = rate.level
      give_back(rate, hold[1], hold[2])
      hold[1], rate.level = add(rate, hold[2], now), level
    end
  end
  redis.call('HSET', state_key, 'l:' .. op.id, cmsgpack.pack(lease))
  return 1
end

local function cancel(op)
  if redis.call('ZSCORE', queue_key, op.id) then
    drop_ticket(op.id)
    has_room = true
    return 1
  end
  return settle({id = op.id, sent = false, retry_after = -1})
end

local function renew(op)
  state.lease_ends = math.min(state.lease_ends, now + settings.lease)
  for _, id in ipairs(op.ids) do
    taken = taken + redis.call('ZADD', lease_key, text(now + settings.lease), id)
  end
  return 0
end

local function restore(op)
  for key, amounts in pairs(op.admitted) do
    local rate = by_key[key]
    for _, item in ipairs(rate and amounts or {}) do
      if item[1] < rate.span then add(rate, item[2], now - item[1]) end
    end
  end
  return renew(op)
end

-- Returns for each id how long ago it was admitted, -1 if it waits and -2 if it is unknown; then how many processes
-- there are.
local function ping(op)
  local result, processes, count = {}, {}, 0
  for i, id in ipairs(op.ids) do
    local ends = redis.call('ZSCORE', lease_key, id)
    result[i] = ends and now + settings.lease - tonumber(ends) or redis.call('ZSCORE', queue_key, id) and -1 or -2
  end
  redis.call('ZREMRANGEBYSCORE', member_key, '-inf', text(now - settings.presence))
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', member_key, '-inf', text(now))) do
    local process = string.match(member, '^[^.]+')
    if not processes[process] then processes[process], count = true, count + 1 end
  end
  result[#result + 1] = count
  return result
end

local function leave()
  redis.call('ZREM', member_key, settings.member)
  return 0
end

local OPERATIONS = {acquire = acquire, settle = settle, headers = headers, delayed = delayed, cancel = cancel, renew = renew,
  restore = restore, ping = ping, leave = leave}

-- Tells the member whose ticket is now the first, and when that may pass, unless it knows already.
local function announce_first()
  local id, ticket = first_ticket()
  if not id then
    state.head, state.head_at = '', 0
    return -1
  end
  local wait = ready_in(ticket.needs)
  if wait >= NEVER then
    local ends = tonumber(redis.call('ZRANGE', lease_key, 0, 0, 'WITHSCORES')[2])
    if ends and ends < NEVER then wait = math.max(1, ends - now) end
  end
  if ticket.member == settings.member then
    state.head, state.head_at = id, now + wait
    return wait < NEVER and wait or -1
  end
  if state.head ~= id or now + wait < state.head_at - 1000 then
    state.head, state.head_at = id, now + wait
    publish(ticket.member, settings.pool .. '\nfirst\n' .. text(wait < NEVER and wait or -1))
  end
  return -1
end

load()
if redis.call('ZADD', member_key, text(now), settings.member) == 1 then announce('joined') end
taken, waiting = redis.call('ZCARD', lease_key) - 1, redis.call('ZCARD', queue_key) - 1
for _, rate in ipairs(rates) do forget(rate) end
expire_leases()
local results = {}
for i, op in ipairs(operations) do results[i] = OPERATIONS[op.op](op) end
admit_first()
local first_in = announce_first()
save()
local spread = 0
for _, rate in ipairs(rates) do spread = math.max(spread, window_wait(rate, 1), bucket_wait(rate, 1, 0), claim_wait(rate, 1)) end
local shown = {taken, settings.slots == -1 and -1 or slots(), waiting, math.max(0, state.paused_until - now), spread}
for _, rate in ipairs(rates) do
  local left = rate.limit - rate.used
  for _, claim in pairs(claims[rate.key] or {}) do
    if now < claim.over then left = math.min(left, claim.left - claim.consumed) end
  end
  shown[#shown + 1] = left
end
return cjson.encode({state.epoch, now, shown, admitted, first_in, results}) -- one text: a client parses that sooner
