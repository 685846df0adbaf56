-- Whether scripts may run here, and write.
redis.call('SET', KEYS[1], redis.call('TIME')[1], 'PX', 60000)
return 1
