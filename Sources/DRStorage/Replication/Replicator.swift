public import DRCore
public import Logging
import NIOCore

import struct Foundation.Date

/// Copies committed backups and change logs from one repository to another, byte for byte; and the audit trail and the reports of runs, of which
/// nothing on the other tier is ever removed or written over (``ReplicationOutcome/recordFindings``).
///
/// What is copied is compared with the manifest's SHA-256 while it is sent: an object that is damaged at its source is never
/// stored. Then it is read back from where it was copied to. The manifest comes last, so a backup is on the other tier if
/// and only if all of it is there, seen there.
///
/// | after | is left on the other tier | what the next run does |
/// | --- | --- | --- |
/// | some segments are copied | a log with the segments so far, oldest first | copies the others |
/// | the marker is put | the marker | goes on |
/// | while an object is sent | an unfinished upload | sends it again (uploads by `cleanInterrupted`) |
/// | some artifacts are there | the marker and whole artifacts | reads those back, sends the others |
/// | the manifest is put (the commit) | a whole backup, and its marker | adds the record, removes the marker |
/// | the record is put | the same, and when it was verified | removes the marker |
/// | some lines of the audit trail, or reports, are copied | those, the oldest first | copies the others |
///
/// Without a next run, `cleanInterrupted` removes what was not committed. Two replications at the same time send the same bytes
/// under the same names. What the other tier's pruning has removed is not brought back.
public struct Replicator: Sendable {
  public struct Settings: Sendable {
    /// How many objects are copied at the same time.
    public var concurrency: Int = 4
    /// Of artifacts and segments on the other tier; manifests stay in its default class, so that a catalog never waits for
    /// an archive.
    public var storageClass: StorageClass?
    /// Of everything that is copied, in days from the copy.
    public var lock: RetentionPolicy.Lock?
    /// Which logs go along; segments that no backup on either side needs do not.
    public var changeLogs: [ChangeLogRule] = ChangeLogRule.all
    /// Read back what is there already, too, and send again what is damaged; but not what is archived by now. Without, of a copy that
    /// was verified once only the sizes are looked at.
    public var readsBackAll = false

    public init() {}
  }

  public let source: Repository
  public let target: Repository
  public let settings: Settings

  /// - Parameter target: On another tier, of the same layout. To leave bandwidth for others, make it of a
  ///   ``RateLimitedTier``.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for layouts that differ; `unsupported` for a class or a lock
  ///   that the target's tier does not have.
  public init(from source: Repository, to target: Repository, settings: Settings = Settings()) throws {
    guard source.layout == target.layout else {
      throw DRError(.invalidConfiguration, "two repositories of different layouts cannot be copied to each other")
    }
    self.source = source
    self.target = target
    self.settings = settings
    try target.tier.checkSupported(options(length: nil), for: ObjectKey("replica"))
  }

  /// Copies what is missing.
  ///
  /// One backup or segment that cannot be copied keeps no other from it; its error is in the outcome.
  ///
  /// - Parameter component: Only this one; nil: all. The audit trail and the reports, which are everybody's, go along with any.
  /// - Throws: ``DRCore/DRError`` with `tierUnavailable` when a tier cannot be reached at all; `CancellationError`.
  public func run(of component: Component? = nil, logger: Logger) async throws -> ReplicationOutcome {
    // The catalog before the logs: so every segment that a listed backup needs is listed.
    let catalog = try await source.catalog(of: component)
    let there = try await target.catalog(of: component)
    var outcome = ReplicationOutcome()
    for broken in catalog.unreadable { outcome.failures[broken.key] = broken.error }
    for component in Set(catalog.backups.map(\.component)).sorted(by: { $0.description < $1.description }) {
      let folder = source.folder(of: component)
      let condemned = try await PruneLedger(tier: target.tier, folder: folder).standings().filter {
        $0.value.isCondemned
      }
      let wanted = catalog.backups.filter { $0.component == component && condemned[$0.id] == nil }
      outcome.leftOut += catalog.backups.filter { $0.component == component && condemned[$0.id] != nil }.map(\.id)
      let present = there.backups.filter { $0.component == component }
      for rule in settings.changeLogs {
        try await copyLog(rule, in: folder, for: wanted + present, logger, &outcome)
      }
      // A manifest that cannot be read there is no commit: it is written again.
      let torn = try await torn(present)
      let committed = Set(present.map(\.id)).subtracting(torn)
      let open = try await unfinished(wanted.map(\.id).filter(committed.contains), in: folder)
      for backup in wanted where open.contains(backup.id) {
        let failure = try await failure { try await finish(backup, in: folder, method: nil) }
        if let failure { outcome.failures[try folder.manifest(backup.id)] = failure }
      }
      var copied = committed
      let recorded = Set(present.map(\.id))
      for backup in ordered(wanted) where !committed.contains(backup.id) {
        let sent = MutableBox(Sent())
        let failure = try await failure { [copied] in
          if let parent = backup.parent, !copied.contains(parent) {
            throw DRError(
              .targetUnreachable, "\(backup.id) needs \(parent), which is not on \(target.tier.name)",
              advice: "see why that one was not copied", component: component, object: backup.id)
          }
          let wasCommitted = recorded.contains(backup.id)
          try await copy(backup, in: folder, wasCommitted: wasCommitted, logger) { part in
            sent.withLock { $0.add(part) }
          }
        }
        outcome.bytes += sent.value.bytes
        if recorded.contains(backup.id) {
          outcome.readBack += sent.value.readBack
          outcome.damaged += sent.value.damaged.sorted()
          outcome.mended += sent.value.mended.sorted()
          outcome.archived += sent.value.archived
        }
        if let failure {
          outcome.failures[try folder.manifest(backup.id)] = failure
        } else {
          copied.insert(backup.id)
          // What was there, and is whole, was not copied.
          if !recorded.contains(backup.id) || sent.value.bytes > 0 { outcome.backups.append(backup.id) }
        }
      }
    }
    try await copyRecords(&outcome)
    return outcome
  }

  /// Committed copies of which something is missing, or has another size; all of them, if all are to be read back.
  private func torn(_ present: [BackupManifest]) async throws -> Set<String> {
    guard !settings.readsBackAll else { return Set(present.map(\.id)) }
    var torn: Set<String> = []
    for backup in present {
      let infos = try await concurrently(backup.artifacts, limit: settings.concurrency) { artifact in
        try await target.tier.head(artifact.key)?.size == artifact.storedSize
      }
      if infos.contains(false) { torn.insert(backup.id) }
    }
    return torn
  }

  /// Committed copies whose record is missing, or whose marker is still there.
  private func unfinished(_ committed: [String], in folder: BackupFolder) async throws -> Set<String> {
    let markers = Set(
      try await target.tier.listAll(prefix: folder.metadataPrefix).compactMap { object in
        if case .marker(let id) = folder.metadata(object.key) { id } else { nil }
      })
    let records = Set(try await target.tier.listAll(prefix: "\(folder.path)/replicas/").map(\.key))
    return Set(try committed.filter { try markers.contains($0) || !records.contains(folder.replica($0)) })
  }

  /// What kept a step from its end, if something did. A cancellation is thrown.
  func failure(_ body: () async throws -> Void) async throws -> DRError? {
    try Task.checkCancellation()
    do {
      try await body()
      return nil
    } catch let error as DRError {
      return error
    }
  }

  /// The newest first, for that is what a disaster asks for; but parents before their children.
  private func ordered(_ backups: [BackupManifest]) -> [BackupManifest] {
    let byID = Dictionary(backups.map { ($0.id, $0) }) { first, _ in first }
    var (ordered, seen) = ([BackupManifest](), Set<String>())
    func visit(_ backup: BackupManifest) {
      guard seen.insert(backup.id).inserted else { return }
      if let parent = backup.parent.flatMap({ byID[$0] }) { visit(parent) }
      ordered.append(backup)
    }
    for backup in backups.sorted(by: { $0.recoveryPoint.time > $1.recoveryPoint.time }) { visit(backup) }
    return ordered
  }

  private func options(length: Int64?) -> PutOptions {
    PutOptions(expectedLength: length, storageClass: settings.storageClass, lock: lock)
  }

  var lock: RetentionLock? {
    settings.lock.map { RetentionLock($0.mode, until: target.now().addingTimeInterval($0.days * 86_400)) }
  }

  var isArchived: Bool { settings.storageClass?.isArchive ?? false }

  // MARK: Backups

  /// What was done about artifacts.
  struct Sent: Sendable {
    var bytes: Int64 = 0
    var readBack = 0
    var damaged: [ObjectKey] = []
    var mended: [ObjectKey] = []
    var archived = 0

    mutating func add(_ other: Sent) {
      bytes += other.bytes
      readBack += other.readBack
      damaged += other.damaged
      mended += other.mended
      archived += other.archived
    }
  }

  /// - Parameter onArtifact: Told of each one.
  private func copy(
    _ backup: BackupManifest, in folder: BackupFolder, wasCommitted: Bool, _ logger: Logger,
    onArtifact: @escaping @Sendable (Sent) -> Void
  ) async throws {
    let started = target.now()
    let marker = try folder.marker(backup.id)
    @Sendable func showLife() async throws {
      let content = BackupMarker(id: backup.id, component: backup.component, started: started, alive: target.now())
      _ = try await target.tier.put(marker, ByteStream(content.encoded()), PutOptions())
    }
    try await showLife()
    let all = MutableBox(Sent())
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        while true {
          try await Task.sleep(for: target.heartbeat)
          try? await showLife()
        }
      }
      group.addTask {
        _ = try await concurrently(backup.artifacts, limit: settings.concurrency) { artifact in
          try await copy(artifact, wasCommitted: wasCommitted) { sent in
            all.withLock { $0.add(sent) }
            onArtifact(sent)
          }
        }
      }
      defer { group.cancelAll() }
      try await group.next()
    }
    // A host that slept may have been taken for dead, and its copies cleaned.
    for artifact in backup.artifacts { try await target.tier.checkPresence(of: artifact) }
    try await commit(backup, in: folder)
    for artifact in backup.artifacts { try await target.tier.checkPresence(of: artifact) }
    // Of what was not read, the record says what it said before.
    let sent = all.value
    let wasNotRead = wasCommitted && sent.archived > 0
    try await finish(backup, in: folder, method: wasNotRead ? nil : isArchived ? .sent : .readBack)
    logger.info(
      "backup copied",
      metadata: ["backup.id": "\(backup.id)", "tier": "\(target.tier.name)", "bytes": "\(sent.bytes)"])
  }

  /// The stored bytes of the manifest, unchanged.
  private func commit(_ backup: BackupManifest, in folder: BackupFolder) async throws {
    let key = try folder.manifest(backup.id)
    let json = try await source.tier.read(key)
    guard case .success(let read) = await source.readManifest(key, in: folder), read == backup else {
      throw DRError(.objectNotFound, "the manifest went, or changed, while its backup was copied", object: key.rawValue)
    }
    do {
      _ = try await target.tier.put(
        key, ByteStream(json),
        PutOptions(
          onlyIfAbsent: target.tier.capabilities.contains(.conditionalPut), expectedLength: Int64(json.readableBytes),
          lock: lock))
    } catch let error as DRError where error.code == .objectExists {
      // Another replication, or an attempt whose answer was lost: compared below. One that is damaged there is replaced.
      if case .failure(let broken) = await target.readManifest(key, in: folder),
        broken.code == .corruptData || broken.code == .malformedData
      {
        _ = try await target.tier.put(
          key, ByteStream(json), PutOptions(expectedLength: Int64(json.readableBytes), lock: lock))
      }
    }
    guard try await target.tier.read(key) == json else {
      throw DRError(
        .corruptData, "the manifest on \(target.tier.name) is another one", advice: "compare the two repositories",
        component: backup.component, object: key.rawValue)
    }
  }

  /// What comes after the commit. With no method, only if it is missing.
  private func finish(_ backup: BackupManifest, in folder: BackupFolder, method: ReplicaRecord.Method?) async throws {
    let key = try folder.replica(backup.id)
    if let method {
      let record = ReplicaRecord(
        backup: backup.id, source: source.tier.name, method: method, verified: target.now())
      _ = try await target.tier.put(key, ByteStream(record.encoded()), PutOptions())
    } else if try await target.tier.head(key) == nil, !isArchived {
      // Committed, so it was verified then; when, is not known: now is.
      for artifact in backup.artifacts { try await verify(artifact.key, artifact.storedSize, artifact.storedSHA256) }
      let record = ReplicaRecord(
        backup: backup.id, source: source.tier.name, method: .readBack, verified: target.now())
      _ = try await target.tier.put(key, ByteStream(record.encoded()), PutOptions())
    }
    try await target.tier.delete(folder.marker(backup.id))
  }

  /// Sends nothing, if the copy is there already, whole.
  ///
  /// - Parameter wasCommitted: The copy was committed: what is archived of it by now is not sent again.
  private func copy(
    _ artifact: BackupManifest.Artifact, wasCommitted: Bool, _ done: @Sendable (Sent) -> Void
  ) async throws {
    var (sent, isDamaged) = (Sent(), false)
    if let info = try await target.tier.head(artifact.key), info.size == artifact.storedSize {
      if info.archive?.isReadable ?? true {
        sent.readBack = 1
        do {
          try await verify(artifact.key, artifact.storedSize, artifact.storedSHA256)
          return done(sent)
        } catch let error as DRError where error.code == .corruptData || error.code == .truncatedData {
          // Sent again, in its place.
          sent.damaged = [artifact.key]
          done(sent)
          (sent, isDamaged) = (Sent(), true)
        }
      } else if wasCommitted {
        sent.archived = 1
        return done(sent)
      }
    }
    try await send(artifact.key, size: artifact.storedSize, sha256: artifact.storedSHA256)
    if !isArchived { try await verify(artifact.key, artifact.storedSize, artifact.storedSHA256) }
    sent.bytes = artifact.storedSize
    if isDamaged { sent.mended = [artifact.key] }
    done(sent)
  }

  // MARK: Objects

  /// Sends one object. A difference is found before the put ends, so that nothing wrong is ever stored.
  ///
  /// - Returns: The SHA-256 of what was sent.
  @discardableResult
  func send(_ key: ObjectKey, size: Int64, sha256: String?) async throws -> String {
    let stream = try await source.tier.get(key, range: nil)
    let state = MutableBox((digest: StreamDigest(), size: Int64(0)))
    let body = ByteStream {
      var iterator = stream.makeAsyncIterator()
      if let buffer = try await iterator.next() {
        state.withLock {
          $0.digest.update(buffer)
          $0.size += Int64(buffer.readableBytes)
        }
        return buffer
      }
      let (digest, sent) = state.withLock { ($0.digest.hex(), $0.size) }
      guard sent == size, sha256 == nil || digest == sha256 else {
        throw DRError(
          .corruptData, "\(sent) bytes of SHA-256 \(digest) on \(source.tier.name), not \(size) of \(sha256 ?? "any")",
          advice: "it is damaged there: copy from another tier", object: key.rawValue)
      }
      return nil
    }
    _ = try await target.tier.put(key, body, options(length: size))
    return state.withLock { $0.digest.hex() }
  }

  func verify(_ key: ObjectKey, _ size: Int64, _ sha256: String) async throws {
    var (digest, seen) = (StreamDigest(), Int64(0))
    for try await buffer in try await target.tier.get(key, range: nil) {
      digest.update(buffer)
      seen += Int64(buffer.readableBytes)
    }
    guard seen == size, digest.hex() == sha256 else {
      throw DRError(
        .corruptData, "the copy on \(target.tier.name) has \(seen) bytes of SHA-256 \(digest.hex()), not \(sha256)",
        advice: "run the replication again", object: key.rawValue)
    }
  }
}

/// What a replication did.
public struct ReplicationOutcome: Sendable {
  /// Backups that are on the other tier now and were not before.
  public var backups: [String] = []
  public var segments = 0
  /// Sent.
  public var bytes: Int64 = 0
  /// Backups that the other tier's pruning has removed.
  public var leftOut: [String] = []
  /// Objects there that were read back, of those that were committed before: with ``Replicator/Settings/readsBackAll``.
  public var readBack = 0
  /// Of these, those that were not what they must be.
  public var damaged: [ObjectKey] = []
  /// Of those, the ones that were sent again, and are whole now.
  public var mended: [ObjectKey] = []
  /// Objects there that are archived: they were not read back, and not sent again.
  public var archived = 0
  /// Lines of the audit trail and files of reports that are on the other tier now and were not before.
  public var records = 0
  /// Where the audit trails, or the reports, of the two tiers are not the same: failures, and warnings.
  public var recordFindings: [Finding] = []
  /// What could not be copied, by its manifest, segment, line or report.
  public var failures: [ObjectKey: DRError] = [:]
}
