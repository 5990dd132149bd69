public import DRCore
import Foundation
public import Logging
import NIOCore

/// A physical base backup over the replication protocol, streamed from the server into the writer.
///
/// Artifacts: `base.tar`, one `<oid>.tar` for each tablespace, and the server's `backup_manifest`. Every page is checked
/// as it passes; one that looks damaged is read again from the server before it is called so. Works on a primary and
/// on a standby, with PostgreSQL 13 and later. It is tested against a 15; what 13 and 14 need (``BaseBackupCommand``,
/// archives without types and without a tar's end) is written after their documentation, and was never seen against such
/// a server.
///
/// The role needs the REPLICATION attribute. To read pages again, and to ask the server for its clock, it needs to
/// connect to a database and to execute `pg_read_binary_file`; without, a page that looks damaged fails the backup.
public struct PostgresBaseBackup: BackupSource {
  /// What to do about pages that stay damaged after they were read again.
  public enum DamagedPages: Sendable {
    /// Fail: nothing is committed.
    case fail
    /// Commit the backup and list them in the manifest's properties under `damagedPages`: for the last backup of a
    /// dying disk.
    case record
  }

  /// Where the WAL comes from that makes the backup consistent.
  public enum RequiredWAL: Sendable {
    /// Into `base.tar` itself: the backup can be restored without an archive, to its end.
    case included
    /// From an archive: the capture succeeds once that holds everything from the start to the end of the backup.
    case archived(WALArchive, within: Duration = .seconds(300))
  }

  public let component: Component
  public var server: PostgresConnectionSettings
  public var requiredWAL: RequiredWAL
  /// Checkpoint at once, or spread over the server's `checkpoint_completion_target`.
  public var fastCheckpoint = true
  /// In bytes a second; nil is as fast as it goes.
  public var maximumRate: Int?
  public var damagedPages = DamagedPages.fail
  /// Let the server verify checksums too. It leaves out pages that changed since the backup began, and it costs the server
  /// time; for roles that may not read pages again it is the second opinion.
  public var serverVerifiesChecksums = false
  public var progress: ProgressHandler?

  public init(component: Component, server: PostgresConnectionSettings, requiredWAL: RequiredWAL) {
    self.component = component
    self.server = server
    self.requiredWAL = requiredWAL
  }

  public func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    do {
      return try await PostgresConnection.withConnection(server, replication: true, logger: logger) { connection in
        try await PostgresSideConnection.with(server, logger: logger) { side in
          try await run(connection, side, writer, logger)
        }
      }
    } catch var error as DRError {
      error.component = error.component ?? component
      throw error
    }
  }

  private func run(
    _ connection: PostgresConnection, _ side: PostgresSideConnection, _ writer: any BackupWriter, _ logger: Logger
  ) async throws -> Capture {
    let version = try await connection.serverVersionNumber
    guard version >= BaseBackupCommand.oldest else {
      throw DRError(
        .unsupportedVersion, "PostgreSQL \(version / 10_000) cannot be backed up: 13 is the oldest that can",
        advice: "upgrade the server")
    }
    let identity = try await connection.query("IDENTIFY_SYSTEM")
    let checksums = try await connection.query("SHOW data_checksums").single == "on"
    let segmentSize = ServerIdentity.segmentSize(try await connection.query("SHOW wal_segment_size").single ?? "")
    guard let systemIdentifier = identity.single else {
      throw DRError(.sourceFailed, "the server does not say who it is")
    }
    if case .archived(let archive, _) = requiredWAL, archive.systemIdentifier == systemIdentifier {
      try await archive.checkNotBehind(ServerIdentity(connection))
    }
    var command = BaseBackupCommand(label: writer.backupID)
    command.fastCheckpoint = fastCheckpoint
    command.maximumRate = maximumRate.map { max(32, $0 >> 10) }
    command.includesWAL = requiredWAL.isIncluded
    command.serverVerifiesChecksums = serverVerifiesChecksums
    try await connection.send(command.text(serverVersion: version))

    // A spread checkpoint may take minutes before the first answer.
    let start = try await position(connection, limit: fastCheckpoint ? .seconds(600) : .seconds(3600))
    let tablespaces = try await tablespaces(connection)
    logger.info(
      "base backup started",
      metadata: [
        "postgres.lsn": "\(start.lsn)", "postgres.timeline": "\(start.timeline)", "backup.id": "\(writer.backupID)",
      ])
    let meter = progress.map { ProgressMeter("base.tar", total: tablespaces.totalSize, handler: $0) }
    let scan = try await store(
      connection, version: version, tablespaces: tablespaces, checksums: checksums, writer: writer, meter)
    let end: (lsn: LSN, timeline: UInt32)
    do {
      end = try await position(connection, limit: .seconds(600))
      // The end position is not success: pages that the server found damaged are an error after it.
      while try await connection.nextResult() != nil {}
    } catch let error as DRError where error.sqlState == "XX001" {
      let notices = await connection.takeNotices().prefix(10).map(\.message).joined(separator: "; ")
      throw DRError(
        .sourceDamaged, "the server found damaged pages while it sent the backup: \(notices)",
        advice: "find the tables with pg_amcheck, and restore them from an earlier backup", cause: error)
    }
    let damaged = try await PageRecheck(side: side, logger: logger).confirm(scan.suspects, count: scan.suspectCount)
    try refuse(damaged)
    let ended = try await side.now() ?? Date()
    if case .archived(let archive, let limit) = requiredWAL {
      try await archive.waitUntilHolds(
        from: start.lsn, through: end.lsn, timeline: end.timeline, systemIdentifier: systemIdentifier, within: limit,
        logger: logger, onWait: { meter?.wait(for: $0) })
    }
    meter?.finish()
    return Capture(
      recoveryPoint: RecoveryPoint(time: ended, position: "\(end.lsn)", history: "\(end.timeline)"),
      changesFrom: RecoveryPoint(time: ended, position: "\(start.lsn)", history: "\(start.timeline)"),
      method: .basebackup, serverVersion: try await connection.parameterStatus("server_version"),
      systemIdentifier: systemIdentifier,
      leftOut: BaseBackupOmissions.all(includesWAL: requiredWAL.isIncluded),
      properties: properties(
        tablespaces.locations, damaged: damaged, pages: scan.pages, checksums: checksums, segmentSize: segmentSize))
  }

  /// Streams every archive into the writer. Returns what the page scan saw.
  private func store(
    _ connection: PostgresConnection, version: Int, tablespaces: TablespaceList, checksums: Bool,
    writer: any BackupWriter, _ meter: ProgressMeter?
  ) async throws -> ScanResult {
    let frameSize = 1 << 20
    let pool = BufferPool(capacity: BaseBackupDemultiplexer.capacity(frameSize: frameSize))
    let stream = BaseBackupStream(
      connection, serverVersion: version, tablespaces: tablespaces.archives, frameSize: frameSize, pool: pool)
    var result = ScanResult()
    while let archive = try await stream.nextArchive() {
      meter?.begin(archive.artifactName)
      let scanned = MutableBox<BackupPageScanner?>(
        archive == .manifest ? nil : BackupPageScanner(archive: archive, checksums: checksums))
      let needsTrailer = version < BaseBackupCommand.parenthesised && archive != .manifest
      let trailer = MutableBox(needsTrailer)
      let content = ByteStream(recycling: pool) {
        guard let frame = try await stream.nextFrame() else {
          // PostgreSQL 13 and 14 send archives without the two blocks of zeroes that end a tar.
          let missing = trailer.withLock { trailer in
            defer { trailer = false }
            return trailer
          }
          return missing ? ByteBuffer(repeating: 0, count: 1024) : nil
        }
        try scanned.withLock { try $0?.scan(frame) }
        meter?.add(frame.readableBytes)
        return frame
      }
      try await writer.write(
        archive.artifactName, content, expectedLength: tablespaces.size(of: archive))
      if let scanner = scanned.value {
        do {
          try scanner.finish(trailer: !needsTrailer)
        } catch {
          // A server that fails in the middle ends the copy, and says why after it.
          _ = try await connection.nextResult()
          throw error
        }
        result.add(scanner)
      }
    }
    return result
  }

  private func position(_ connection: PostgresConnection, limit: Duration) async throws -> (lsn: LSN, timeline: UInt32)
  {
    guard case .rows(let rows) = try await connection.nextResult(limit: limit), rows.count == 1,
      let lsn = rows[0][0].flatMap({ LSN($0) }), let timeline = rows[0][1].flatMap({ UInt32($0) })
    else { throw BaseBackupDemultiplexer.malformed("no position where one belongs") }
    return (lsn, timeline)
  }

  private func tablespaces(_ connection: PostgresConnection) async throws -> TablespaceList {
    guard case .rows(let rows) = try await connection.nextResult() else {
      throw BaseBackupDemultiplexer.malformed("no list of tablespaces")
    }
    return try TablespaceList(rows)
  }

  private func refuse(_ damaged: [DamagedPage]) throws {
    guard case .fail = damagedPages, let first = damaged.first else { return }
    throw DRError(
      .sourceDamaged, "\(damaged.count) damaged pages in the server's files, the first: \(first)",
      advice:
        "find the table with pg_filenode_relation, and restore it from an earlier backup; to keep a backup of what is left, allow damaged pages to be recorded (--record-damaged-pages)",
      object: first.path)
  }

  private func properties(
    _ tablespaces: [UInt32: String], damaged: [DamagedPage], pages: Int64, checksums: Bool, segmentSize: WALSegmentSize?
  ) -> [String: JSONValue] {
    var properties: [String: JSONValue] = [
      "dataChecksums": .bool(checksums), "pagesChecked": .integer(pages), "walIncluded": .bool(requiredWAL.isIncluded),
    ]
    // Retention tells by it which segments the backup needs.
    if let segmentSize { properties["walSegmentSize"] = .integer(Int64(segmentSize.bytes)) }
    if !tablespaces.isEmpty {
      properties["tablespaces"] = .object(
        Dictionary(uniqueKeysWithValues: tablespaces.map { ("\($0.key)", .string($0.value)) }))
    }
    if !damaged.isEmpty { properties["damagedPages"] = .array(damaged.map { .string("\($0)") }) }
    return properties
  }
}

extension BackupManifest {
  /// Pages of the server's files that were damaged already when this base backup was taken, and that were recorded
  /// (``PostgresBaseBackup/DamagedPages``): the file, the block and what is wrong with each.
  public var damagedPages: [String] { properties["damagedPages"]?.array?.compactMap(\.string) ?? [] }
}

extension PostgresBaseBackup.RequiredWAL {
  var isIncluded: Bool { if case .included = self { true } else { false } }
}

/// What the page scans of all archives saw.
private struct ScanResult {
  var suspects: [SuspectPage] = []
  var suspectCount = 0
  var pages: Int64 = 0

  mutating func add(_ scanner: BackupPageScanner) {
    suspects += scanner.suspects
    suspectCount += scanner.suspectCount
    pages += scanner.pages
  }
}

/// What a base backup never holds.
///
/// Source: PostgreSQL documentation, "Streaming Replication Protocol", BASE_BACKUP.
enum BaseBackupOmissions {
  static func all(includesWAL: Bool) -> [BackupManifest.Omission] {
    var all = [
      BackupManifest.Omission(what: "unlogged tables", reason: "they are empty after a recovery, as after any crash"),
      BackupManifest.Omission(what: "temporary tables", reason: "they belong to sessions"),
      BackupManifest.Omission(what: "replication slots", reason: "the server leaves them out; create them anew"),
      BackupManifest.Omission(
        what: "configuration outside the data folder", reason: "the server sends only its data folder and tablespaces"),
    ]
    if !includesWAL { all.append(BackupManifest.Omission(what: "pg_wal", reason: "the WAL is in the archive")) }
    return all
  }
}
