public import DRCore
import Foundation
public import Logging
import NIOCore

/// Looks at a running server after a restore: does it answer, does it hold what the backup holds, are known keys what they
/// were, is its memory as expected, does its own persistence work.
public struct RedisProbes: Verifier {
  public var settings: RedisConnectionSettings
  /// What was restored; nil: nothing to compare counts with, which is a notice.
  public var manifest: BackupManifest?
  /// Whether changes after the snapshot were restored too, so that counts may differ.
  public var includesChanges: Bool
  /// Known keys, taken from the source (``RedisSamples/take(_:count:from:logger:)``).
  public var samples: RedisSamples?
  /// By how much the memory in use may differ from the source's, in percent.
  public var memoryTolerance = 50.0
  /// How long one look may take.
  public var limit: Duration = .seconds(600)

  public init(
    _ settings: RedisConnectionSettings, manifest: BackupManifest? = nil, includesChanges: Bool = false,
    samples: RedisSamples? = nil
  ) {
    self.settings = settings
    self.manifest = manifest
    self.includesChanges = includesChanges
    self.samples = samples
  }

  public func verify(logger: Logger) async throws -> [Finding] {
    var settings = settings
    settings.timeLimit = limit
    let looks: [(String, (RedisConnection) async throws -> [Finding])] = [
      ("connectivity", connectivity), ("key-counts", keyCounts), ("key-types", keyTypes), ("samples", sampleDigests),
      ("hits", hits), ("memory", memory), ("persistence", persistence),
    ]
    var findings: [Finding] = []
    for (name, look) in looks {
      do {
        findings += try await RedisConnection.withConnection(settings, logger: logger, look)
      } catch {
        try Task.checkCancellation()
        findings.append(
          Finding(
            name, .failure, subject: "\(settings)", evidence: "could not be looked at: \(error)",
            advice: "make it possible to look, and look again: nothing is known until then"))
      }
    }
    return findings
  }

  private func finding(
    _ check: String, _ severity: Finding.Severity, _ evidence: String, _ advice: String? = nil
  ) -> Finding {
    Finding(check, severity, subject: "\(settings)", evidence: evidence, advice: severity == .passed ? nil : advice)
  }

  private func info(_ connection: RedisConnection) async throws -> RedisInfo {
    RedisInfo(try await connection.command("INFO", "everything").text ?? "")
  }

  private func connectivity(_ connection: RedisConnection) async throws -> [Finding] {
    let isUp = try await connection.command("PING") == .simple("PONG")
    let info = try await info(connection)
    let isMaster = info["role"] == "master"
    return [
      finding(
        "connectivity", isUp && info["loading"] == "0" ? (isMaster ? .passed : .warning) : .failure,
        "version \(info["redis_version"] ?? "unknown") answers as \(info["role"] ?? "unknown")",
        "wait until it has loaded; REPLICAOF NO ONE makes it take writes")
    ]
  }

  private func keyCounts(_ connection: RedisConnection) async throws -> [Finding] {
    let info = try await info(connection)
    let (found, ending) = (info.keysByDatabase, info.expiringByDatabase)
    let all = found.values.reduce(0, +)
    guard let expected = manifest?.properties["keysPerDatabase"]?.object else {
      return [finding("key-counts", .notChecked, "\(all) keys, and nothing to compare with", "give the manifest")]
    }
    let expiring = manifest?.properties["expiriesPerDatabase"]?.object ?? [:]
    let numbers = Set(expected.keys.compactMap { Int($0) }).union(found.keys).sorted()
    return numbers.map { number in
      let (wanted, there) = (expected["\(number)"]?.integer ?? 0, found[number] ?? 0)
      // Keys whose time has passed since are gone; those that have none are all there, and have none now.
      let (least, lasting) = (wanted - (expiring["\(number)"]?.integer ?? 0), there - (ending[number] ?? 0))
      let good = lasting == least && there <= wanted
      return Finding(
        "key-counts", good ? .passed : includesChanges ? .notice : .failure, subject: "database \(number)",
        evidence:
          "\(there) keys, \(there - lasting) of them with a time to live; the backup has \(wanted), and \(wanted - least) with one",
        advice: good ? nil : "see maxmemory and its policy, and which backup this is")
    }
  }

  /// Counted by a scan of every database.
  private func keyTypes(_ connection: RedisConnection) async throws -> [Finding] {
    guard let expected = manifest?.properties["keysByType"]?.object else { return [] }
    var found: [String: Int64] = [:]
    for database in try await info(connection).keysByDatabase.keys {
      try await connection.command("SELECT", "\(database)")
      try await Self.scan(connection) { keys in
        var commands = ByteBuffer()
        for key in keys { commands.writeRESPCommand([ByteBuffer(string: "TYPE"), key]) }
        try await connection.write(commands)
        for type in try await connection.replies(keys.count) { found[type.text ?? "?", default: 0] += 1 }
      }
    }
    let expiries = manifest?.properties["expiriesPerDatabase"]?.object?.values.reduce(0) { $0 + ($1.integer ?? 0) } ?? 0
    // Looked at after the scan, which removes what has ended. Of which type those were that have, nobody knows.
    let gone = expiries - (try await info(connection).expiringByDatabase.values.reduce(0, +))
    return Set(expected.keys).union(found.keys).subtracting(["none"]).sorted().map { type in
      let wanted = expected[type]?.integer ?? 0
      let there = found[type] ?? 0
      let good = there <= wanted && there >= wanted - max(0, gone)
      return Finding(
        "key-types", good ? .passed : includesChanges ? .notice : .failure, subject: type,
        evidence: "\(there) keys, and \(wanted) in the backup",
        advice: good ? nil : "see which backup this is")
    }
  }

  private func sampleDigests(_ connection: RedisConnection) async throws -> [Finding] {
    guard let samples, !samples.keys.isEmpty else {
      return [
        finding("samples", .notChecked, "no known keys to compare", "take samples of the source before its backup")
      ]
    }
    var different: [String] = []
    for sample in samples.keys {
      try await connection.command("SELECT", "\(sample.database)")
      if try await RedisSamples.digest(ByteBuffer(bytes: sample.key), connection) != sample.digest {
        different.append(sample.name)
      }
    }
    return [
      finding(
        "samples", different.isEmpty ? .passed : .failure,
        different.isEmpty
          ? "\(samples.keys.count) known keys are what they were"
          : "\(different.count) of \(samples.keys.count) known keys are not what they were, the first: \(different[0])",
        "this is not the data that was backed up, or not of the expected moment")
    ]
  }

  /// Known keys are asked for, and the server must count them as hits.
  private func hits(_ connection: RedisConnection) async throws -> [Finding] {
    guard let samples, !samples.keys.isEmpty else { return [] }
    let before = try await info(connection)
    for sample in samples.keys {
      try await connection.command("SELECT", "\(sample.database)")
      var commands = ByteBuffer()
      commands.writeRESPCommand([ByteBuffer(string: "EXISTS"), ByteBuffer(bytes: sample.key)])
      try await connection.write(commands)
      _ = try await connection.reply()
    }
    let after = try await info(connection)
    let hits = (after.integer("keyspace_hits") ?? 0) - (before.integer("keyspace_hits") ?? 0)
    let good = hits >= samples.keys.count
    return [
      finding(
        "hits", good ? .passed : .failure, "\(hits) hits for \(samples.keys.count) known keys",
        "see which keys are missing")
    ]
  }

  private func memory(_ connection: RedisConnection) async throws -> [Finding] {
    let info = try await info(connection)
    let used = info.integer("used_memory") ?? 0
    let limit = info.integer("maxmemory") ?? 0
    guard let expected = manifest?.properties["usedMemory"]?.integer, expected > 0 else {
      return [finding("memory", .notChecked, "\(used) bytes in use, and nothing to compare with")]
    }
    let difference = abs(Double(used - expected)) / Double(expected) * 100
    let fits = limit == 0 || used < limit
    let evicted = info.integer("evicted_keys") ?? 0
    // A small data set is lost in what every server needs.
    let good = fits && evicted == 0 && (difference <= memoryTolerance || abs(used - expected) < 16 << 20)
    return [
      finding(
        "memory", good ? .passed : fits && evicted == 0 ? .warning : .failure,
        "\(used) bytes in use, \(expected) at the source, limit \(limit), \(evicted) keys evicted",
        "raise maxmemory; keys that were evicted are lost")
    ]
  }

  private func persistence(_ connection: RedisConnection) async throws -> [Finding] {
    let info = try await info(connection)
    let isAppendOnly = info["aof_enabled"] == "1"
    var troubles: [String] = []
    if isAppendOnly {
      if info["aof_last_write_status"] != "ok" { troubles.append("the last write to the append-only file failed") }
      if info["aof_last_bgrewrite_status"] != "ok" { troubles.append("the last rewrite failed") }
      if info["aof_rewrite_in_progress"] != "0" {
        troubles.append("a rewrite is in progress: until its end a crash brings back the old data")
      }
    }
    if info["rdb_last_bgsave_status"] != "ok" { troubles.append("the last BGSAVE failed") }
    return [
      finding(
        "persistence", troubles.isEmpty ? .passed : .failure,
        troubles.isEmpty
          ? (isAppendOnly ? "the append-only file is written" : "no append-only file; the last save is good")
          : troubles.joined(separator: "; "), "see the server's log and its disk")
    ]
  }

  /// Every key of the chosen database, in batches.
  static func scan(
    _ connection: RedisConnection, _ body: ([ByteBuffer]) async throws -> Void
  ) async throws {
    var cursor = "0"
    repeat {
      let answer = try await connection.command("SCAN", cursor, "COUNT", "1000").elements ?? []
      guard answer.count == 2, let next = answer[0].text, let keys = answer[1].elements else {
        throw DRError(.sourceFailed, "the server does not scan its keys")
      }
      cursor = next
      let names = keys.compactMap { if case .bulk(let name) = $0 { name } else { nil } }
      if !names.isEmpty { try await body(names) }
    } while cursor != "0"
  }
}
