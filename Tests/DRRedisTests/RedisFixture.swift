import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// What the tests against real servers share.
enum RedisFixture {
  static let logger: Logger = {
    var logger = Logger(label: "test")
    // `DR_TEST_LOG=1` shows what happens inside.
    logger.logLevel = ProcessInfo.processInfo.environment["DR_TEST_LOG"] == nil ? .critical : .debug
    return logger
  }()

  static func component() throws -> Component { try Component(.redis, "test") }

  /// A server whose data sets can be compared. What is sent without a file is sent at once.
  static func options(appendOnly: Bool = false, _ settings: [String: String] = [:]) -> RedisSandbox.Options {
    RedisSandbox.Options(
      settings: ["enable-debug-command": "local", "repl-diskless-sync-delay": "0"].merging(settings) { $1 },
      appendOnly: appendOnly)
  }

  static func withServer<R>(
    _ options: RedisSandbox.Options = options(), _ body: (RedisSandbox) async throws -> R
  ) async throws -> R {
    try await RedisSandbox.withSandbox(options, logger: logger, body)
  }

  static func withRepository<R>(_ body: (Repository, String) async throws -> R) async throws -> R {
    try await withTemporaryFolder { folder in
      // Servers run as another user when the tests run as root.
      chmod(folder, 0o711)
      return try await body(Repository(tier: try await LocalTier(root: folder + "/repository", creating: true)), folder)
    }
  }

  /// Every type, in two databases, with times to live, a function and a group of a stream.
  static func fill(_ server: RedisSandbox, keys: Int = 300) async throws {
    let script = """
      for i = 1, tonumber(ARGV[1]) do
        redis.call('SET', 'string:' .. i, string.rep('value ' .. i, i % 50))
        redis.call('HSET', 'hash:' .. i % 20, 'field' .. i, i, 'other' .. i, 'text')
        redis.call('RPUSH', 'list:' .. i % 10, i, 'element ' .. i)
        redis.call('SADD', 'set:' .. i % 10, i, 'member ' .. i)
        redis.call('SADD', 'numbers', i)
        redis.call('ZADD', 'sorted:' .. i % 10, i / 3, 'member ' .. i)
        redis.call('XADD', 'stream:' .. i % 5, '*', 'field', i)
        redis.call('SET', 'session:' .. i, i, 'EX', 100000 + i)
      end
      redis.call('XGROUP', 'CREATE', 'stream:1', 'workers', '0')
      redis.call('XREADGROUP', 'GROUP', 'workers', 'one', 'COUNT', 3, 'STREAMS', 'stream:1', '>')
      """
    try await server.command("EVAL", script, "0", "\(keys)")
    try await server.command("SET", "elsewhere", "yes", database: 3)
    try await server.command(
      "FUNCTION", "LOAD", "REPLACE",
      "#!lua name=testing\nredis.register_function('answer', function() return 42 end)")
  }

  /// A script that digests the moments at which keys of databases 0 and 3 expire.
  static let expiryDigest = """
    local moments = {}
    for _, database in ipairs({'0', '3'}) do
      redis.call('SELECT', database)
      local keys = redis.call('KEYS', '*')
      table.sort(keys)
      for _, key in ipairs(keys) do
        moments[#moments + 1] = string.format('%s %s %.0f', database, key, redis.call('PEXPIRETIME', key))
      end
    end
    return redis.sha1hex(table.concat(moments, '\\n'))
    """

  /// The digest of all data, and of the moments at which keys expire: `DEBUG DIGEST` sees only that they do. Keys whose time
  /// is past would count until they are met.
  static func digest(_ server: RedisSandbox) async throws -> String {
    let data = try await server.command("DEBUG", "DIGEST").text ?? ""
    return try await "\(data) \(server.command("EVAL", expiryDigest, "0").text ?? "")"
  }

  static func info(_ server: RedisSandbox, _ section: String = "everything") async throws -> RedisInfo {
    RedisInfo(try await server.command("INFO", section).text ?? "")
  }

  static func eventually(
    _ what: String, within limit: Duration = .seconds(30), _ condition: () async throws -> Bool
  ) async throws {
    let deadline = ContinuousClock.now + limit
    while !(try await condition()) {
      guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited \(limit) for \(what)") }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  static func program(_ server: RedisSandbox, _ name: String, _ arguments: [String]) async throws -> (Int32, String) {
    let result = try await runCommand(server.installation.path(name), arguments)
    return (result.status, String(decoding: result.output, as: UTF8.self) + result.error)
  }
}
