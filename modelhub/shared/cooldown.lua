-- Until when models cool down, over all processes: a hash of instants by what identifies the model.
--
-- KEYS: the hash. ARGV: the prefix of channels, then for each model that is to cool down its identity and for how
-- long, in microseconds. The latest of all instants holds. Returns all models that cool down, likewise.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1e6 + tonumber(time[2])
local function text(number) return string.format('%.0f', number) end

for i = 2, #ARGV, 2 do
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)
  if now + tonumber(ARGV[i + 1]) > known then
    redis.call('HSET', KEYS[1], ARGV[i], text(now + tonumber(ARGV[i + 1])))
    redis.pcall('PUBLISH', ARGV[1] .. ':all', 'cooldown\n' .. ARGV[i] .. '\n' .. ARGV[i + 1])
  end
end
if #ARGV > 1 then redis.call('PEXPIRE', KEYS[1], 86400000) end
local result, all = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(all[i + 1]) > now then
    result[#result + 1], result[#result + 2] = all[i], text(tonumber(all[i + 1]) - now)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return result
