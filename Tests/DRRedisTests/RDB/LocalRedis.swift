import DRCore
import DRRedis
import DRTestSupport
import Foundation

/// A redis-server of a test's own, on a Unix socket in a temporary folder, spoken to by `redis-cli`.
struct LocalRedis {
  let folder: String

  private var socket: String { "\(folder)/redis.sock" }
  var settings: RedisConnectionSettings { RedisConnectionSettings(socket: socket) }
  var dump: String { "\(folder)/dump.rdb" }

  /// Starts a server, gives it, and ends it whatever happens.
  static func with<R>(
    _ arguments: [String] = [], in given: String? = nil, _ body: (LocalRedis) async throws -> R
  ) async throws -> R {
    guard given == nil else { return try await LocalRedis(folder: given ?? "").run(arguments, body) }
    return try await withTemporaryFolder { try await LocalRedis(folder: $0).run(arguments, body) }
  }

  private func run<R>(_ arguments: [String], _ body: (LocalRedis) async throws -> R) async throws -> R {
    let start = try await runCommand(
      "redis-server",
      [
        "--port", "0", "--unixsocket", socket, "--dir", folder, "--daemonize", "yes", "--save", "",
        "--pidfile", "\(folder)/redis.pid", "--logfile", "\(folder)/redis.log", "--enable-debug-command", "yes",
      ] + arguments)
    guard start.status == 0 else {
      throw DRError(.programFailed, "redis-server: \(start.error)\(String(decoding: start.output, as: UTF8.self))")
    }
    do {
      try await untilReady()
      let result = try await body(self)
      await stop()
      return result
    } catch {
      await stop()
      throw error
    }
  }

  private func untilReady() async throws {
    try await withTimeLimit(.seconds(30), "the start of redis-server in \(folder)") {
      while try await runCommand("redis-cli", ["-s", socket, "ping"]).output != Array("PONG\n".utf8) {
        try await Task.sleep(for: .milliseconds(20))
      }
    }
  }

  private func stop() async {
    let process = (try? String(contentsOfFile: "\(folder)/redis.pid", encoding: .utf8)).flatMap {
      Int32($0.trimmingCharacters(in: .whitespacesAndNewlines))
    }
    _ = try? await runCommand("redis-cli", ["-s", socket, "shutdown", "nosave"], timeLimit: .seconds(10))
    guard let process, process > 1 else { return }
    for _ in 0..<500 where kill(process, 0) == 0 { try? await Task.sleep(for: .milliseconds(10)) }
    if kill(process, 0) == 0 { kill(process, SIGKILL) }
  }

  /// Runs one command. An error reply is returned as text.
  func command(_ arguments: String..., database: Int = 0) async throws -> String {
    let result = try await runCommand("redis-cli", ["-s", socket, "-n", "\(database)"] + arguments)
    return String(decoding: result.output, as: UTF8.self).trimmingCharacters(in: .newlines)
  }

  /// Runs many commands, one a line, as `redis-cli` reads them. Gives each answer's lines.
  ///
  /// - Throws: ``DRError`` for an error reply.
  @discardableResult
  func script(_ lines: [String], database: Int = 0) async throws -> [String] {
    let result = try await runCommand(
      "redis-cli", ["-s", socket, "-n", "\(database)"], input: Array((lines.joined(separator: "\n") + "\n").utf8))
    let answers = String(decoding: result.output, as: UTF8.self).split(
      separator: "\n", omittingEmptySubsequences: false
    ).map(String.init)
    if let error = answers.first(where: { $0.hasPrefix("ERR ") || $0.hasPrefix("WRONGTYPE") }) {
      throw DRError(.programFailed, "redis-cli: \(error)")
    }
    return answers
  }

  /// As ``RedisFixture/digest(_:)``.
  func digest() async throws -> String {
    let data = try await command("debug", "digest")
    return try await "\(data) \(command("eval", RedisFixture.expiryDigest, "0"))"
  }

  /// Sends raw bytes of the protocol and gives what `redis-cli --pipe` says.
  func pipe(_ bytes: [UInt8]) async throws -> String {
    let result = try await runCommand("redis-cli", ["-s", socket, "--pipe"], input: bytes)
    return String(decoding: result.output, as: UTF8.self) + result.error
  }

  /// How many keys all databases have.
  func keys() async throws -> Int {
    try await command("info", "keyspace").split(whereSeparator: \.isNewline).reduce(0) { sum, line in
      sum + (line.firstMatch(of: /keys=([0-9]+)/).flatMap { Int($0.1) } ?? 0)
    }
  }

  /// How many keys of a type a database has.
  func count(_ type: String, database: Int) async throws -> Int {
    let script = """
      local cursor, number = '0', 0
      repeat
        local page = redis.call('SCAN', cursor, 'COUNT', 1000, 'TYPE', ARGV[1])
        cursor, number = page[1], number + #page[2]
      until cursor == '0'
      return number
      """
    return Int(try await command("eval", script, "0", type, database: database)) ?? -1
  }

  /// How many keys of each type and encoding a database has, as `set intset`.
  func encodings(database: Int) async throws -> [String: Int] {
    let script = """
      local counts, lines = {}, {}
      for _, key in ipairs(redis.call('KEYS', '*')) do
        local form = redis.call('TYPE', key).ok .. ' ' .. redis.call('OBJECT', 'ENCODING', key)
        counts[form] = (counts[form] or 0) + 1
      end
      for form, count in pairs(counts) do lines[#lines + 1] = form .. '=' .. count end
      return lines
      """
    var counts: [String: Int] = [:]
    for line in try await command("eval", script, "0", database: database).split(separator: "\n") {
      let parts = line.split(separator: "=")
      counts[String(parts[0])] = parts.count == 2 ? Int(parts[1]) : nil
    }
    return counts
  }

  /// Each key as `name type expiry payload`: the name and what DUMP gives without its footer in hexadecimal digits, the
  /// expiry in milliseconds or -1.
  ///
  /// - Parameter sorted: The members of a hash table in their own order, behind the byte of the type: the order in which
  ///   DUMP gives them is each server's own.
  func listing(database: Int, sorted: Bool = false) async throws -> [String] {
    let script = """
      local function hex(s) return (s:gsub('.', function(c) return string.format('%02x', c:byte()) end)) end
      local function members(key, kind)
        local found = {}
        if kind == 'set' then
          for _, member in ipairs(redis.call('SMEMBERS', key)) do found[#found + 1] = hex(member) end
        else
          local all = redis.call('HGETALL', key)
          for i = 1, #all, 2 do found[#found + 1] = hex(all[i]) .. '=' .. hex(all[i + 1]) end
        end
        table.sort(found)
        return table.concat(found, ',')
      end
      local lines = {}
      for _, key in ipairs(redis.call('KEYS', '*')) do
        local kind, dump = redis.call('TYPE', key).ok, redis.call('DUMP', key)
        local value = hex(dump:sub(1, -11))
        if ARGV[1] == 'sorted' and redis.call('OBJECT', 'ENCODING', key) == 'hashtable' then
          value = value:sub(1, 2) .. ':' .. members(key, kind)
        end
        lines[#lines + 1] = string.format('%s %s %.0f %s', hex(key), kind, redis.call('PEXPIRETIME', key), value)
      end
      return lines
      """
    let answer = try await command("eval", script, "0", sorted ? "sorted" : "dumped", database: database)
    return answer.split(separator: "\n").map(String.init)
  }

  /// Saves, and gives the bytes of the file.
  func save() async throws -> [UInt8] {
    let answer = try await command("save")
    guard answer == "OK" else { throw DRError(.programFailed, "SAVE: \(answer)") }
    return try [UInt8](Data(contentsOf: URL(filePath: dump)))
  }
}
