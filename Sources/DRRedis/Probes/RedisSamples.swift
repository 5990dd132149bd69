import DRCore
import Foundation
public import Logging
import NIOCore

/// Keys of a server with digests of their values, to be compared after a restore. No value is in it.
public struct RedisSamples: Sendable, Hashable, Codable {
  public struct Key: Sendable, Hashable, Codable {
    public var database: Int
    /// The bytes of the name.
    public var key: [UInt8]
    /// SHA-256 of the type and the value, read by commands: it does not depend on how a server encodes it.
    public var digest: String

    /// For people.
    public var name: String { String(decoding: key.prefix(100), as: UTF8.self) }
  }

  public var keys: [Key]

  /// Takes so many random keys.
  ///
  /// - Throws: ``DRError``: as a connection.
  public static func take(
    _ settings: RedisConnectionSettings, count: Int = 100, logger: Logger
  ) async throws -> RedisSamples {
    try await RedisConnection.withConnection(settings, logger: logger) { connection in
      var taken: [String: Key] = [:]
      let info = RedisInfo(try await connection.command("INFO", "keyspace").text ?? "")
      for (database, keys) in info.keysByDatabase {
        try await connection.command("SELECT", "\(database)")
        for _ in 0..<min(Int64(count), keys) {
          guard case .bulk(let name) = try await connection.command("RANDOMKEY") else { continue }
          // A key that may end before it is compared proves nothing.
          var question = ByteBuffer()
          question.writeRESPCommand([ByteBuffer(string: "PTTL"), name])
          try await connection.write(question)
          guard let left = try await connection.reply().integer, left == -1 || left > 3_600_000 else { continue }
          let digest = try await digest(name, connection)
          taken["\(database) \(digest) \(name)"] = Key(
            database: database, key: Array(name.readableBytesView), digest: digest)
        }
      }
      return RedisSamples(keys: taken.values.sorted { $0.digest < $1.digest })
    }
  }

  /// The digest of a key's type and value; one of its own for a key that is not there.
  static func digest(_ key: ByteBuffer, _ connection: RedisConnection) async throws -> String {
    func ask(_ words: [String], _ more: [String] = []) async throws -> RESPValue {
      var commands = ByteBuffer()
      commands.writeRESPCommand(words.map { ByteBuffer(string: $0) } + [key] + more.map { ByteBuffer(string: $0) })
      try await connection.write(commands)
      let answer = try await connection.reply()
      if case .error(let error) = answer {
        throw DRError(.sourceFailed, "a known key cannot be read", cause: error)
      }
      return answer
    }
    let type = try await ask(["TYPE"]).text ?? "none"
    var sorted = false
    let value: RESPValue
    switch type {
    case "none": return "none"
    case "string": value = try await ask(["GET"])
    case "list": value = try await ask(["LRANGE"], ["0", "-1"])
    case "set":
      value = try await ask(["SMEMBERS"])
      sorted = true
    case "hash":
      value = try await ask(["HGETALL"])
      sorted = true
    case "zset": value = try await ask(["ZRANGE"], ["0", "-1", "WITHSCORES"])
    case "stream": value = try await ask(["XRANGE"], ["-", "+"])
    default: value = try await ask(["DUMP"])
    }
    var all = ByteBuffer(string: "\(type)\n")
    if sorted, let elements = value.elements {
      // A hash's fields and values stay together.
      let width = type == "hash" ? 2 : 1
      let groups = stride(from: 0, to: elements.count, by: width).map { start in
        var group = ByteBuffer()
        for element in elements[start..<min(start + width, elements.count)] { group.writeRESP(element) }
        return Array(group.readableBytesView)
      }
      for group in groups.sorted(by: { $0.lexicographicallyPrecedes($1) }) { all.writeBytes(group) }
    } else {
      all.writeRESP(value)
    }
    return StreamDigest.hex(all)
  }
}
