-- One pool of a limit: requests, tokens, slots and pauses, over all processes that share it.
--
-- KEYS: the state (a hash), the queue (tickets by their number), the leases (attempts under way, by the instant at
-- which they end), the members (by the instant at which they last said that they are there), and one window for each
-- rate (a list of the grains of time in which something was admitted; the state knows how much). All are of one hash slot,
-- and each holds something as long as the pool exists, so that a missing key shows that data were lost.
-- ARGV: the caller's name, the pool's, the prefix of channels, the pool's numbers (packed doubles) and the key of each
-- rate, all of which are the same in most calls; then the epoch that the caller knows ("" for none), "1" if it says that
-- it is there, and a list of operations as JSON (each a list: its name, then what it needs).
--
-- Returns one text, which a client takes apart sooner than a list: packed doubles (the instant, how soon the first
-- ticket may pass if it is the caller's (-1 if it is not, or nobody can tell), what of the pool is to be shown, and what
-- is left of each rate), then three lines: the epoch, the caller's tickets that were admitted, and the operations'
-- results, with a tab between them.
-- Every instant is of this server's clock, in microseconds.
--
-- The server makes every function below anew in each call. So what is seldom needed stands inside a function, what is
-- needed once stands where it is needed, and what is kept is packed by `struct`, in a fraction of the time of the others.

local state_key, queue_key, lease_key, member_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local member, pool, prefix, numbers = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known_epoch, is_there, operations = ARGV[#ARGV - 2], ARGV[#ARGV - 1], cjson.decode(ARGV[#ARGV])
local NEVER = 2 ^ 52
local AUTO = -2 -- an adaptive concurrency limit
local MOST_ADMITTED = 200 -- at a time
local CHUNK = 16 -- of the grains of a window, of which mostly the first few are looked at
local MINUTE = 60e6
local STATE, RATE, LEASE, HOLD = '<ddddddddddddss', '<dddddddddd', '<dB', '<ssddd'
local find -- a function by its name, of those that are seldom needed
local seldom -- all of them, once one was needed

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1e6 + tonumber(time[2])
local slot_limit, lease_time, patience, presence, grace, ttl, position = struct.unpack('<dddddd', numbers)
local rates, by_key = {}, {}

local function text(number) return string.format('%d', number) end

local function publish(channel, message) redis.pcall('PUBLISH', prefix .. ':' .. channel, message) end

-- the state ---------------------------------------------------------------------------------------------------------

local fields = {'state', 'claims'}
for i = 1, #KEYS - 4 do
  local key = ARGV[4 + i]
  local rate = {key = key, field = 'r:' .. key, window = KEYS[4 + i], grains = 'a:' .. key .. ':', is_requests = 0, limit = 0,
    period = 0, span = 0, grain = 0, burst = 0, used = 0, total = 0, level = 0, level_at = now, queued = 0, reserved = 0,
    oldest = 0, latest = 0, learning = 1, share = 0}
  rate.is_requests, rate.limit, rate.period, rate.span, rate.grain, rate.burst, position
    = struct.unpack('<dddddd', numbers, position)
  rate.share = rate.is_requests
  rates[i], by_key[key], fields[i + 2] = rate, rate, rate.field
end
local packed = redis.call('HMGET', state_key, unpack(fields))

local state, claims = {now = 0, sequence = 0, renew_after = 0, paused_until = 0, paused_at = 0, pauses = 0, size = 0,
  starting = 0, cut = 0, head_at = 0, lease_ends = NEVER * 2, admit_after = 0, head = '', epoch = ''}, {}
local is_known = packed[1]
if is_known and redis.call('EXISTS', unpack(KEYS)) < #KEYS then
  is_known = redis.call('EXISTS', state_key, queue_key, lease_key, member_key) == 4
  for i, rate in ipairs(rates) do
    if redis.call('EXISTS', rate.window) == 0 then
      is_known = is_known and not packed[i + 2] -- or else the rate is new to the pool
      redis.call('RPUSH', rate.window, '@')
    end
  end
end
if is_known then
  state.now, state.sequence, state.renew_after, state.paused_until, state.paused_at, state.pauses, state.size,
    state.starting, state.cut, state.head_at, state.lease_ends, state.admit_after, state.head, state.epoch
    = struct.unpack(STATE, packed[1])
  claims = packed[2] and cmsgpack.unpack(packed[2]) or claims
  for i, rate in ipairs(rates) do
    if packed[i + 2] then
      rate.used, rate.total, rate.level, rate.level_at, rate.queued, rate.reserved, rate.oldest, rate.latest, rate.learning,
        rate.share = struct.unpack(RATE, packed[i + 2])
    end
  end
  now = math.max(now, state.now) -- a server whose clock is set back, or a replica that takes over, goes on from there
else
  -- Nothing is known of what was admitted before. Where data were lost, those who admitted it say so in a moment.
  redis.call('DEL', unpack(KEYS))
  for i = 2, 4 do redis.call('ZADD', KEYS[i], '+inf', '@') end
  for _, rate in ipairs(rates) do redis.call('RPUSH', rate.window, '@') end
  state.epoch = member .. '/' .. text(now)
  publish('all', pool .. '\nlost\n' .. state.epoch)
  state.admit_after = known_epoch ~= '' and now + grace or 0
end
state.now = now
for _, rate in ipairs(rates) do
  rate.level = math.max(0, rate.level - (now - rate.level_at) * rate.limit / rate.period)
  rate.level_at = now
end

-- rates -------------------------------------------------------------------------------------------------------------

-- Lets go of the grains that are over. A grain is over a span after its end.
local function forget(rate)
  if rate.oldest > now - rate.span then return end -- by a bound of when the oldest grain ended
  local names, next_end, first = {}, nil, 1
  repeat
    local grains = redis.call('LRANGE', rate.window, first, first + CHUNK - 1)
    for _, grain in ipairs(grains) do
      local ends = (grain + 1) * rate.grain
      if ends > now - rate.span then next_end = ends break end
      names[#names + 1] = rate.grains .. grain
    end
    first = first + CHUNK
  until next_end or #grains < CHUNK
  if #names > 0 then
    for _, amount in ipairs(redis.call('HMGET', state_key, unpack(names))) do
      rate.used = rate.used - (tonumber(amount) or 0)
    end
    redis.call('HDEL', state_key, unpack(names))
    redis.call('LTRIM', rate.window, #names, -1)
    redis.call('LSET', rate.window, 0, '@')
  end
  rate.oldest = next_end or now
end

-- Counts *amount* as admitted now, and returns in which grain.
local function add(rate, amount)
  local grain = math.floor(now / rate.grain)
  local name = text(grain)
  redis.call('HINCRBY', state_key, rate.grains .. name, text(amount))
  if grain > rate.latest then
    redis.call('RPUSH', rate.window, name)
    rate.latest = grain
  end
  rate.used, rate.oldest = rate.used + amount, math.min(rate.oldest, now)
  return name
end

local function give_back(rate, grain, amount)
  if amount > 0 and redis.call('HEXISTS', state_key, rate.grains .. grain) == 1 then
    redis.call('HINCRBY', state_key, rate.grains .. grain, text(-amount))
    rate.used, rate.level = rate.used - amount, math.max(0, rate.level - amount)
  end
end

local function window_wait(rate, amount)
  if rate.used + amount <= rate.limit then return 0 end
  forget(rate)
  local over, first = rate.used + amount - rate.limit, 1
  while over > 0 do
    local grains, names = redis.call('LRANGE', rate.window, first, first + CHUNK - 1), {}
    if #grains == 0 then return rate.span * math.ceil(over / rate.limit) end
    for i, grain in ipairs(grains) do names[i] = rate.grains .. grain end
    for i, held in ipairs(redis.call('HMGET', state_key, unpack(names))) do
      over = over - (tonumber(held) or 0)
      if over <= 0 then return math.max(1, (grains[i] + 1) * rate.grain + rate.span - now) end
    end
    first = first + CHUNK
  end
  return 0
end

local function bucket_wait(rate, amount, ahead)
  if rate.burst < 0 then return 0 end
  local missing = rate.level + ahead + math.min(amount, rate.burst) - rate.burst
  return missing > 1e-6 and math.ceil(missing * rate.period / rate.limit) or 0
end

local function rate_wait(rate, amount)
  local wait = bucket_wait(rate, amount, 0)
  if rate.used + amount > rate.limit then wait = math.max(wait, window_wait(rate, amount)) end
  if claims[rate.key] then wait = math.max(wait, find('claim_wait')(rate, amount)) end
  return wait
end

-- attempts ----------------------------------------------------------------------------------------------------------

local taken = redis.call('ZCARD', lease_key) - 1
local waiting = redis.call('ZCARD', queue_key) - 1
local has_room = true -- since the first ticket was last looked at, something was given back
local admitted = {} -- the caller's

local function slots()
  if slot_limit ~= AUTO then return slot_limit < 0 and NEVER or slot_limit end
  if state.size == 0 then state.size, state.starting = 4, 1 end
  return math.floor(state.size)
end

local function ready_in(needs)
  if taken >= slots() then return NEVER end
  local wait = math.max(0, state.paused_until - now, state.admit_after - now)
  for _, rate in ipairs(rates) do wait = math.max(wait, rate_wait(rate, needs[rate.key] or 0)) end
  return wait
end

local function admit(id, needs, source)
  local lease = struct.pack(LEASE, now, #rates)
  for _, rate in ipairs(rates) do
    local amount = needs[rate.key] or 0
    local is_probe = claims[rate.key] and find('consume')(rate, amount) and 1 or 0
    if rate.burst >= 0 then rate.level = rate.level + amount end
    rate.total, rate.reserved = rate.total + amount, rate.reserved + amount
    lease = lease .. struct.pack(HOLD, rate.key, add(rate, amount), amount, rate.total, is_probe)
  end
  redis.call('HSET', state_key, 'l:' .. id, lease .. source)
  redis.call('ZADD', lease_key, text(now + lease_time), id)
  state.lease_ends = math.min(state.lease_ends, now + lease_time)
  taken = taken + 1
end

-- Returns when the attempt of a lease began, its holds by the rate's key, and its source; nil if there is none.
local function read_lease(id)
  local record = redis.call('HGET', state_key, 'l:' .. id)
  if not record then return nil end
  local holds, began, count, at = {}, struct.unpack(LEASE, record)
  for _ = 1, count do
    local key, grain, amount, number, is_probe, next_at = struct.unpack(HOLD, record, at)
    holds[key], at = {grain = grain, amount = amount, number = number, is_probe = is_probe}, next_at
  end
  return began, holds, string.sub(record, at)
end

local function end_lease(id, holds)
  local was_held = redis.call('ZREM', lease_key, id)
  taken = taken - was_held
  has_room = has_room or was_held == 1
  if not holds then return end
  redis.call('HDEL', state_key, 'l:' .. id)
  for key, hold in pairs(holds) do
    if by_key[key] then by_key[key].reserved = math.max(0, by_key[key].reserved - hold.amount) end
  end
end

-- operations --------------------------------------------------------------------------------------------------------

local function settle_rate(rate, hold, source, sent, answered, used)
  if not sent then used = 0 end
  if used and sent and rate.is_requests == 0 and hold.amount > 0 then
    rate.share = rate.share + (math.min(1, used / hold.amount) - rate.share) * rate.learning
    rate.learning = 0.2
  end
  local beyond = used and used - hold.amount or 0
  if beyond < 0 then
    give_back(rate, hold.grain, -beyond)
  elseif beyond > 0 then
    add(rate, beyond)
    if rate.burst >= 0 then rate.level = rate.level + beyond end
  end
  if claims[rate.key] then find('settle_claims')(claims[rate.key], hold, source, answered, beyond) end
end

local function settle(id, sent, answered, limited, retry_after, used, told)
  local began, holds, source = read_lease(id)
  if answered and (began or now) > state.paused_at then state.pauses = 0 end
  if limited or slot_limit == AUTO then find('adapt')(began, answered, limited, retry_after) end
  end_lease(id, holds)
  if not began then return end
  for key, hold in pairs(holds) do
    if by_key[key] then settle_rate(by_key[key], hold, source, sent, answered, used and used[key]) end
  end
  if told then find('hear')(source, holds, told, retry_after) end
end

-- Returns the function *name* of those that are not needed while nobody waits and no vendor has said what is left.
find = function(name)
  if seldom then return seldom[name] end

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

  -- Counts *amount* as consumed of all claims, and returns whether it is an attempt that passes although nothing is left.
  local function consume(rate, amount)
    local is_probe = false
    for _, claim in pairs(claims[rate.key]) do
      is_probe = is_probe or is_full(claim, amount)
      claim.consumed, claim.probed = claim.consumed + amount, now
    end
    return is_probe
  end

  -- Corrects the claims by how much more was used than was reserved.
  local function settle_claims(known, hold, source, answered, beyond)
    for _, claim in pairs(known) do
      if beyond > 0 or beyond < 0 and hold.number > claim.number then claim.consumed = claim.consumed + beyond end
    end
    -- It was answered although the vendor had said that nothing is left.
    if answered and hold.is_probe == 1 and known[source] and hold.number > known[source].number then known[source] = nil end
  end

  -- Returns why an attempt need not wait, as a code, the number of a rate (0: none) and the wait, or nil.
  local function rejection(needs, time_left, wait_budget)
    if time_left < 0 and wait_budget < 0 then return nil end
    local pause, waits = math.max(0, state.paused_until - now), {}
    local longest = pause
    for i, rate in ipairs(rates) do
      local amount = needs[rate.key] or 0
      local ahead = rate.queued * rate.share - rate.reserved * (1 - rate.share)
      waits[i] = math.max(window_wait(rate, amount + ahead), claim_wait(rate, amount), bucket_wait(rate, amount, ahead))
      longest = math.max(longest, waits[i])
    end
    if time_left >= 0 and longest > time_left then return 'late', 0, longest end
    if wait_budget < 0 then return nil end
    if pause > wait_budget then return 'paused', 0, pause end
    for i, rate in ipairs(rates) do
      local told = claim_wait(rate, needs[rate.key] or 0)
      if told > wait_budget then return 'told', i, told end
      if rate.period > MINUTE and waits[i] > wait_budget then return 'quota', i, waits[i] end
    end
  end

  local function drop_ticket(id)
    local record = redis.call('HGET', state_key, 't:' .. id)
    redis.call('ZREM', queue_key, id)
    redis.call('HDEL', state_key, 't:' .. id)
    waiting = waiting - 1
    for key, amount in pairs(record and cmsgpack.unpack(record).needs or {}) do
      if by_key[key] then by_key[key].queued = math.max(0, by_key[key].queued - amount) end
    end
  end

  local function first_ticket()
    while waiting > 0 do
      local id = redis.call('ZRANGE', queue_key, 0, 0)[1]
      local record = redis.call('HGET', state_key, 't:' .. id)
      local ticket = record and cmsgpack.unpack(record)
      local seen = ticket and tonumber(redis.call('ZSCORE', member_key, ticket.member) or nil)
      if seen and seen >= now - patience then return id, ticket end
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
      if ticket.member == member then admitted[#admitted + 1] = id
      else others[ticket.member] = (others[ticket.member] or '') .. '\n' .. id end
    end
    for other, ids in pairs(others) do publish(other, pool .. '\nadmitted\n' .. text(now) .. ids) end
  end

  -- Puts an attempt into the queue. Returns "queued", or why not: a code, the number of a rate and a wait (or how many
  -- wait), with blanks between.
  local function enqueue(id, needs, source, max_queue, time_left, wait_budget)
    if redis.call('ZSCORE', queue_key, id) then return 'queued' end -- it is asked for again
    if max_queue >= 0 and waiting >= max_queue then return 'full 0 ' .. text(waiting) end
    local code, number, wait = rejection(needs, time_left, wait_budget)
    if code then return code .. ' ' .. number .. ' ' .. text(wait) end
    state.sequence = state.sequence + 1
    redis.call('ZADD', queue_key, state.sequence, id)
    redis.call('HSET', state_key, 't:' .. id, cmsgpack.pack({member = member, needs = needs, source = source}))
    for key, amount in pairs(needs) do
      if by_key[key] then by_key[key].queued = by_key[key].queued + amount end
    end
    waiting = waiting + 1
    return 'queued'
  end

  -- Tells the member whose ticket is now the first, and when that may pass, unless it knows already. Returns that wait if
  -- the ticket is the caller's.
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
    if ticket.member == member then
      state.head, state.head_at = id, now + wait
      return wait < NEVER and wait or -1
    end
    if state.head ~= id or now + wait < state.head_at - 1000 then
      state.head, state.head_at = id, now + wait
      publish(ticket.member, pool .. '\nfirst\n' .. text(wait < NEVER and wait or -1))
    end
    return -1
  end

  -- Applies what a vendor said is left to the claims.
  local function hear(source, holds, told, retry_after)
    for key, claim in pairs(told) do
      local rate, hold = by_key[key], holds[key]
      if rate and hold then
        claims[key] = claims[key] or {}
        local last = claims[key][source]
        if not last or last.over <= now or last.number <= hold.number then
          claims[key][source] = {left = claim[1], over = now + claim[2], number = hold.number, probed = now,
            probe_after = retry_after < 0 and MINUTE or retry_after, consumed = rate.total - hold.number}
        end
      end
    end
  end

  -- Adapts the limit to how an attempt ended: its slots where they are adaptive, and its pause.
  local function adapt(began, answered, limited, retry_after)
    local CALM = 10e6 -- after a cut, in which nothing changes
    local FIRST_PAUSE, LONGEST_PAUSE = 1e6, 30e6 -- after a rate limit without Retry-After; doubles while it goes on
    local function resize(size) state.size = math.min(256, math.max(1, size)) end

    if began and slot_limit == AUTO and not (state.cut > 0 and (began <= state.cut or now < state.cut + CALM)) then
      local is_full = taken >= slots()
      if answered and is_full then resize(state.size + (state.starting == 1 and 1 or 1 / state.size)) end
      if limited then
        resize(math.min(state.size, taken) / 2)
        state.starting, state.cut = 0, now
      end
    end
    if not limited then return end
    if retry_after < 0 then
      -- Where it was under way when the last pause began, it says nothing new.
      if (began or now) <= state.paused_at then return end
      retry_after = math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ state.pauses)
      state.pauses = state.pauses + 1
    end
    state.paused_at = now
    if now + retry_after > state.paused_until then
      state.paused_until = now + retry_after
      publish('all', pool .. '\npaused\n' .. text(retry_after))
    end
  end

  local function headers(id, told)
    local began, holds, source = read_lease(id)
    if began then hear(source, holds, told, -1) end
  end

  -- The request of an attempt was written long after it was admitted: it counts from now on.
  local function delayed(id)
    local began, holds, source = read_lease(id)
    if not began then return end
    local lease, count = '', 0
    for key, hold in pairs(holds) do
      local rate = by_key[key]
      if rate and hold.amount > 0 then
        local level = rate.level
        give_back(rate, hold.grain, hold.amount)
        hold.grain, rate.level = add(rate, hold.amount), level
      end
      lease, count = lease .. struct.pack(HOLD, key, hold.grain, hold.amount, hold.number, hold.is_probe), count + 1
    end
    redis.call('HSET', state_key, 'l:' .. id, struct.pack(LEASE, began, count) .. lease .. source)
  end

  local function cancel(id)
    if redis.call('ZSCORE', queue_key, id) then
      drop_ticket(id)
      has_room = true
    else
      settle(id, false, false, false, -1, false, false)
    end
  end

  local function renew(ids)
    state.lease_ends = math.min(state.lease_ends, now + lease_time)
    for _, id in ipairs(ids) do taken = taken + redis.call('ZADD', lease_key, text(now + lease_time), id) end
  end

  -- Counts what was admitted in the past: amounts by age.
  local function restore_rate(rate, amounts)
    local grains = {}
    for _, item in ipairs(amounts) do
      local grain = math.floor((now - item[1]) / rate.grain)
      local name = rate.grains .. text(grain)
      if item[1] < rate.span then
        if redis.call('HEXISTS', state_key, name) == 0 then grains[#grains + 1] = grain end
        redis.call('HINCRBY', state_key, name, text(item[2]))
        rate.used, rate.oldest, rate.latest = rate.used + item[2], 0, math.max(rate.latest, grain)
      end
    end
    if #grains == 0 then return end
    for _, grain in ipairs(redis.call('LRANGE', rate.window, 1, -1)) do grains[#grains + 1] = tonumber(grain) end
    table.sort(grains)
    for i, grain in ipairs(grains) do grains[i] = text(grain) end
    redis.call('DEL', rate.window)
    redis.call('RPUSH', rate.window, '@', unpack(grains))
    state.renew_after = 0 -- the new list must expire, too
  end

  local function restore(amounts_by_key, ids)
    for key, amounts in pairs(amounts_by_key) do
      if by_key[key] then restore_rate(by_key[key], amounts) end
    end
    renew(ids)
  end

  -- Returns for each id how long ago it was admitted, -1 if it waits and -2 if it is unknown; then how many processes
  -- there are.
  local function ping(ids)
    for _, rate in ipairs(rates) do forget(rate) end
    local result, processes, count = {}, {}, 0
    for i, id in ipairs(ids) do
      local ends = redis.call('ZSCORE', lease_key, id)
      result[i] = text(ends and now + lease_time - tonumber(ends) or redis.call('ZSCORE', queue_key, id) and -1 or -2)
    end
    redis.call('ZREMRANGEBYSCORE', member_key, '-inf', text(now - presence))
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', member_key, '-inf', text(now))) do
      local process = string.match(other, '^[^.]+')
      if not processes[process] then processes[process], count = true, count + 1 end
    end
    result[#result + 1] = count
    return table.concat(result, ' ')
  end

  local function leave() redis.call('ZREM', member_key, member) end

  seldom = {claim_wait = claim_wait, consume = consume, settle_claims = settle_claims, enqueue = enqueue,
    admit_first = admit_first, announce_first = announce_first, hear = hear, adapt = adapt, headers = headers,
    delayed = delayed, cancel = cancel, renew = renew, restore = restore, ping = ping, leave = leave}
  return seldom[name]
end

-- Returns "held", "queued", or why not, as `enqueue` does.
local function acquire(id, needs, source, max_queue, time_left, wait_budget)
  if redis.call('ZSCORE', lease_key, id) then return 'held' end
  if has_room and waiting > 0 then find('admit_first')() end
  if waiting > 0 or ready_in(needs) > 0 then return find('enqueue')(id, needs, source, max_queue, time_left, wait_budget) end
  admit(id, needs, source)
  return 'held'
end

if is_there == '1' or not is_known then
  if redis.call('ZADD', member_key, text(now), member) == 1 then publish('all', pool .. '\njoined') end
end
for _, rate in ipairs(rates) do
  if rate.oldest <= now - rate.span * 33 / 32 then forget(rate) end -- sooner only where that matters
end
if now >= state.lease_ends then -- a bound of when the first one ends
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', lease_key, '-inf', text(now))) do
    local _, holds = read_lease(id)
    end_lease(id, holds)
  end
  state.lease_ends = math.min(NEVER * 2, tonumber(redis.call('ZRANGE', lease_key, 0, 0, 'WITHSCORES')[2]))
end

local results = {}
for i, operation in ipairs(operations) do
  local name = operation[1]
  local operate = name == 'acquire' and acquire or name == 'settle' and settle or find(name)
  results[i] = operate(unpack(operation, 2)) or ''
end
local first_in = -1
if waiting > 0 then
  find('admit_first')()
  first_in = find('announce_first')()
else
  state.head, state.head_at = '', 0
end

-- what is kept, and what is said --------------------------------------------------------------------------------------

if now >= state.renew_after then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, text(ttl / 1000)) end
  state.renew_after = now + ttl / 4
end
local kept = {state_key, 'state', struct.pack(STATE, state.now, state.sequence, state.renew_after, state.paused_until,
  state.paused_at, state.pauses, state.size, state.starting, state.cut, state.head_at, state.lease_ends, state.admit_after,
  state.head, state.epoch)}
local spread, left = 0, ''
for _, rate in ipairs(rates) do
  spread = math.max(spread, rate_wait(rate, 1))
  local rate_left = rate.limit - rate.used
  for _, claim in pairs(claims[rate.key] or {}) do
    if now < claim.over then rate_left = math.min(rate_left, claim.left - claim.consumed) end
  end
  left = left .. struct.pack('<d', rate_left)
  kept[#kept + 1], kept[#kept + 2] = rate.field, struct.pack(RATE, rate.used, rate.total, rate.level, rate.level_at,
    rate.queued, rate.reserved, rate.oldest, rate.latest, rate.learning, rate.share)
end
if packed[2] or next(claims) then kept[#kept + 1], kept[#kept + 2] = 'claims', cmsgpack.pack(claims) end
redis.call('HSET', unpack(kept))
return struct.pack('<ddddddd', now, first_in, taken, slot_limit == -1 and -1 or slots(), waiting,
  math.max(0, state.paused_until - now), spread) .. left .. state.epoch .. '\n' .. table.concat(admitted, '\t') .. '\n'
  .. table.concat(results, '\t')
