import DRCore
import DRRedis
import Foundation
import Logging

/// Keys of every type, about so many bytes of them.
enum RedisSampleData {
  private static let script = """
    local first, count = tonumber(ARGV[1]), tonumber(ARGV[2])
    for i = first, first + count - 1 do
      redis.call('SET', 'page:' .. i, redis.sha1hex(i) .. string.rep(' lorem ipsum ' .. i, 20))
      if i % 4 == 0 then redis.call('HSET', 'user:' .. i, 'name', 'user ' .. i, 'mail', redis.sha1hex(i)) end
      if i % 4 == 1 then redis.call('ZADD', 'rank:' .. i % 500, i, 'user ' .. i) end
      if i % 4 == 2 then redis.call('RPUSH', 'queue:' .. i % 500, 'job ' .. i) end
      if i % 4 == 3 then redis.call('SADD', 'tags:' .. i % 500, 'tag ' .. i) end
      if i % 8 == 0 then redis.call('SET', 'token:' .. i, redis.sha1hex(i), 'EX', 86400) end
    end
    """

  static func fill(_ server: RedisConnectionSettings, bytes: Int64, _ logger: Logger) async throws {
    let chunk: Int64 = 2000
    try await RedisConnection.withConnection(server, logger: logger) { connection in
      for first in stride(from: 1, to: max(2, bytes / 400), by: Int64.Stride(chunk)) {
        try await connection.command("EVAL", script, "0", "\(first)", "\(chunk)")
      }
    }
  }
}
