public import DRCore
import Foundation
public import Logging
import NIOCore

/// A snapshot of a Redis server, taken as a replica takes it: no shell, no file access, nothing to set up on the server.
///
/// Artifacts: `dump.rdb`, as the server sent it; `acl.txt` (encrypted, or left out) and `config.json` (without secrets).
/// Every byte of the RDB file is parsed and its CRC64 checked as it passes: what fails is never committed. Nor is what a
/// server sends when its data set says another offset, or other numbers of keys, than the server and the data set have; of
/// a file, whose maker may have been another program, the latter is only noted (`disagreement`).
///
/// The user needs `+psync +replconf +ping`. What else it may not ask is left out, and the manifest says so. Users are not in
/// an RDB file: without `+acl|list` they are not in the backup. A node of a cluster is refused, if the user may `INFO`: see
/// ``RedisClusterSnapshot``.
public struct RedisSnapshot: BackupSource {
  /// Where the data set comes from.
  public enum Origin: Sendable {
    /// A full synchronisation from a running server.
    case server(RedisConnectionSettings)
    /// An RDB file, as `BGSAVE` or `redis-cli --rdb` leaves it.
    case file(String)
  }

  public let component: Component
  public var origin: Origin
  /// Take a data set without a checksum (`rdbchecksum no`): nothing vouches for its bytes, and the online restorer
  /// refuses it.
  public var acceptsMissingChecksum = false
  /// How long the server may take until the first byte of the data set: it saves all of it to a file first, unless it
  /// sends without one.
  public var saveLimit: Duration = .seconds(3600)
  /// Where the data set waits while the tier is slower than the server.
  public var spool = RedisSpool()
  public var progress: ProgressHandler?
  /// The component's change log: how far it is stored by then is noted in the manifest, so that a loss of its end is seen.
  public var archive: RedisLogArchive?

  public init(component: Component, server: RedisConnectionSettings) {
    self.component = component
    origin = .server(server)
  }

  public init(component: Component, file: String) {
    self.component = component
    origin = .file(file)
  }

  public func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    do {
      switch origin {
      case .file(let path): return try await capture(file: path, into: writer)
      case .server(let settings):
        try await ServerFacts.refuseClusterNode(
          settings, advice: "take all its shards at one moment: dr-redis backup --cluster", logger: logger)
        let session = try await ReplicaSession.start(settings, onlyDataSet: true, spool: spool, logger: logger)
        do {
          let capture = try await capture(from: session, settings, into: writer, logger: logger)
          await session.close()
          return capture
        } catch {
          await session.close()
          throw error
        }
      }
    } catch var error as DRError {
      error.component = error.component ?? component
      throw error
    }
  }

  /// Takes the data set of a full synchronisation that was asked for on a session, and leaves the session where the stream
  /// begins.
  func capture(
    from session: ReplicaSession, _ settings: RedisConnectionSettings, into writer: any BackupWriter, logger: Logger
  ) async throws -> Capture {
    guard case .fullResync(let start) = try await session.next(waiting: settings.timeLimit) else {
      throw DRError(
        .timedOut, "the server did not answer PSYNC within \(settings.timeLimit)",
        advice: "see whether it is loading or saving")
    }
    return try await capture(
      from: session, at: start, moment: Date(), settings, into: writer, logger: logger)
  }

  func capture(
    from session: ReplicaSession, at start: ReplicationPosition, moment: Date, _ settings: RedisConnectionSettings,
    into writer: any BackupWriter, logger: Logger
  ) async throws -> Capture {
    logger.info(
      "full synchronisation started",
      metadata: ["redis.history": "\(start.history)", "redis.offset": "\(start.offset)"])
    let summary = try await store(from: session, at: start, settings, as: "dump.rdb", into: writer)
    let facts = try await ServerFacts.ask(settings, logger: logger)
    let leftOut = try await facts.write(into: writer)
    var properties = Self.properties(summary)
    properties["replicationID"] = .string(start.history)
    properties["replicationOffset"] = .integer(start.offset)
    properties["transfer"] = .string(session.sentWithoutFile ? "diskless" : "disk-based")
    if let end = try await archive?.storedEnd(of: start.history), end.offset <= start.offset {
      properties[BackupManifest.storedProperty] = .string("\(end)")
    }
    properties.merge(facts.properties) { $1 }
    return Capture(
      recoveryPoint: start.recoveryPoint(at: moment), changesFrom: start.recoveryPoint(at: moment), method: .snapshot,
      serverVersion: summary.aux["redis-ver"] ?? facts.version, leftOut: leftOut, properties: properties)
  }

  /// Stores the data set as an artifact, checked. The session is left where the stream begins.
  func store(
    from session: ReplicaSession, at start: ReplicationPosition, _ settings: RedisConnectionSettings, as name: String,
    into writer: any BackupWriter
  ) async throws -> RDBSummary {
    let length = try await payloadLength(session, settings)
    // It takes no more than the data set: what follows is left for who follows.
    let payload = PayloadStream(
      object: name, meter: progress.map { ProgressMeter(name, total: length, handler: $0) },
      next: {
        switch try await session.next(waiting: settings.timeLimit) {
        case .payload(let piece): return piece
        case .payloadEnds: return nil
        case nil:
          throw DRError(
            .timedOut, "the data set stopped for longer than \(settings.timeLimit)",
            advice: "see the server's log: its child may have been killed for want of memory")
        default: throw DRError(.malformedData, "something else in the middle of the data set")
        }
      },
      check: { [acceptsMissingChecksum] summary in
        try Self.check(summary, start: start, acceptsMissingChecksum: acceptsMissingChecksum)
      })
    _ = try await writer.write(name, payload.content, expectedLength: length)
    guard let summary = payload.summary else { throw DRError(.truncatedData, "the data set was not read to its end") }
    return summary
  }

  private func payloadLength(_ session: ReplicaSession, _ settings: RedisConnectionSettings) async throws -> Int64? {
    switch try await session.next(waiting: saveLimit) {
    case .payloadBegins(let length): return length
    case nil:
      throw DRError(
        .timedOut, "the server did not begin to send within \(saveLimit)", advice: "see whether its child process saves"
      )
    default: throw DRError(.malformedData, "something else where the data set begins")
    }
  }

  private static func check(
    _ summary: RDBSummary, start: ReplicationPosition?, acceptsMissingChecksum: Bool
  ) throws {
    guard summary.checksum == .verified || acceptsMissingChecksum else {
      throw DRError(
        .sourceDamaged, "the data set has no checksum: nothing vouches for its bytes",
        advice: "set rdbchecksum yes on the server, or accept a missing checksum", object: "dump.rdb")
    }
    // The stream must go on exactly where the file ends: a server that says two things is not to be trusted with either.
    if let start, let offset = summary.aux["repl-offset"], offset != "\(start.offset)" {
      throw DRError(
        .sourceFailed, "the server announced offset \(start.offset), and the data set is of offset \(offset)",
        advice: "take the snapshot again", object: "dump.rdb")
    }
    if start != nil, let disagreement = summary.disagreement {
      throw DRError(
        .sourceDamaged, "the data set does not hold what it says: \(disagreement)",
        advice: "take the snapshot again; if it stays so, have the server BGSAVE, and take that file",
        object: "dump.rdb")
    }
  }

  private func capture(file path: String, into writer: any BackupWriter) async throws -> Capture {
    let file = try await RDBFileReader.open(path)
    let payload = PayloadStream(
      object: path, meter: progress.map { ProgressMeter("dump.rdb", total: file.size, handler: $0) },
      next: { try await file.next() },
      check: { [acceptsMissingChecksum] in
        try Self.check($0, start: nil, acceptsMissingChecksum: acceptsMissingChecksum)
      })
    try await writer.write("dump.rdb", payload.content, expectedLength: file.size)
    guard let summary = payload.summary else { throw DRError(.truncatedData, "the file was not read to its end") }
    var properties = Self.properties(summary)
    properties["transfer"] = "file"
    // The server's own clock, in seconds, when it began to save.
    let moment = summary.aux["ctime"].flatMap { Double($0) }.map { Date(timeIntervalSince1970: $0) } ?? file.modified
    var point = RecoveryPoint(time: moment, position: summary.aux["repl-offset"] ?? "0")
    point.history = summary.aux["repl-id"]
    return Capture(
      recoveryPoint: point, changesFrom: point.history == nil ? nil : point, method: .snapshot,
      serverVersion: summary.aux["redis-ver"],
      leftOut: [
        BackupManifest.Omission(
          what: "users and their rights (ACL), and the configuration", reason: "the backup was taken from a file")
      ], properties: properties)
  }

  static func properties(_ summary: RDBSummary) -> [String: JSONValue] {
    func table<Key: CustomStringConvertible>(_ counts: [Key: Int]) -> JSONValue {
      .object(Dictionary(uniqueKeysWithValues: counts.map { ("\($0.key)", .integer(Int64($0.value))) }))
    }
    var properties: [String: JSONValue] = [
      "rdbVersion": .integer(Int64(summary.version)), "keys": .integer(Int64(summary.keys)),
      "checksum": .string(summary.checksum.rawValue),
      "keysPerDatabase": table(summary.keysPerDatabase), "expiriesPerDatabase": table(summary.expiriesPerDatabase),
      "keysByType": table(summary.keysByType), "functions": .integer(Int64(summary.functions)),
      "largestKeys": .array(
        summary.largestKeys.map {
          [
            "name": .string($0.name), "database": .integer(Int64($0.database)), "type": .string($0.type),
            "bytes": .integer($0.bytes),
          ]
        }),
    ]
    if let memory = summary.aux["used-mem"].flatMap({ Int64($0) }) { properties["usedMemory"] = .integer(memory) }
    if let disagreement = summary.disagreement { properties["disagreement"] = .string(disagreement) }
    if !summary.moduleNames.isEmpty { properties["modules"] = .array(summary.moduleNames.map { .string($0) }) }
    return properties
  }
}
