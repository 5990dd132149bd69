import DRCore
import DRStorage

import struct Foundation.Data

extension DailyVerification {
  /// Looks, and judges nothing.
  ///
  /// - Throws: `CancellationError`; ``DRError`` for a schema that cannot be used.
  package func facts() async throws -> VerificationFacts {
    let schema = try JSONSchema(BackupManifest.jsonSchema)
    var facts = VerificationFacts(
      now: now(), component: component, level: settings.level, tiers: tiers.map(\.tier.name),
      status: await ReplicationStatus.of(tiers, component: component))
    var lead: Int?
    for (index, repository) in tiers.enumerated() {
      try Task.checkCancellation()
      do {
        let catalog = try await repository.catalog(of: component)
        facts.unreadable[index] = catalog.unreadable
        if lead == nil { (lead, facts.catalog) = (index, catalog.backups) }
        for backup in catalog.backups {
          facts.manifests.append(await manifest(backup, index, schema))
        }
      } catch let error as DRError {
        facts.unreachable[index] = error
      }
    }
    for (name, error) in facts.status.unreachable {
      if let index = facts.tiers.firstIndex(of: name) { facts.unreachable[index] = facts.unreachable[index] ?? error }
    }
    try await look(&facts)
    return facts
  }

  private func manifest(
    _ backup: BackupManifest, _ tier: Int, _ schema: JSONSchema
  ) async -> VerificationFacts.Manifest {
    var manifest = VerificationFacts.Manifest(tier: tier, backup: backup, key: "\(backup.component) \(backup.id)")
    do {
      let (key, text) = try await tiers[tier].manifestText(of: backup)
      manifest.key = key.rawValue
      let violations = try schema.violations(of: Data(text))
      manifest.schema =
        violations.isEmpty
        ? .good : .damaged(DRError(.malformedData, violations.prefix(5).joined(separator: "; ")))
      if tier > 0, let own = try? await tiers[0].manifestText(of: backup).text { manifest.isSame = own == text }
    } catch {
      manifest.schema = .obstructed(
        error as? DRError ?? DRError(.malformedData, "the manifest could not be compared with its schema", cause: error)
      )
    }
    return manifest
  }

  /// Which backups' content is looked at: the newest of each component, method and cadence, and what they go on from.
  func chosen(_ catalog: [BackupManifest]) -> [BackupManifest] {
    guard !settings.allBackups else { return catalog }
    let series = Dictionary(grouping: catalog) { "\($0.component) \($0.method.rawValue) \($0.cadence)" }
    var wanted: Set<String> = []
    for members in series.values {
      var link = members.max { ($0.recoveryPoint.time, $0.id) < ($1.recoveryPoint.time, $1.id) }
      while let current = link, wanted.insert("\(current.component) \(current.id)").inserted {
        link = catalog.first { $0.component == current.component && $0.id == current.parent }
      }
    }
    return catalog.filter { wanted.contains("\($0.component) \($0.id)") }
  }

  // MARK: Objects

  /// One object, and how its content is looked at.
  private struct Work: Sendable {
    var object: VerificationFacts.Object
    var artifact: (manifest: BackupManifest, artifact: BackupManifest.Artifact)?
    var segment: LogObject?
    var size: Int64
  }

  private func look(_ facts: inout VerificationFacts) async throws {
    var work: [Work] = []
    let backups = chosen(facts.catalog)
    for index in facts.reached {
      do {
        work += try await artifacts(of: backups, index, facts) + segments(facts.components, index)
      } catch let error as DRError {
        facts.unreachable[index] = error
      }
    }
    let there = work.indices.filter { if case .there = work[$0].object.presence { true } else { false } }
    let read: Set<Int>
    switch settings.level {
    case .metadata: read = []
    case .data: read = Set(there)
    case .sample(let sample):
      let chosen = sample.chosen(there.map { (work[$0].object.subject(facts.tiers), work[$0].size) })
      read = Set(chosen.map { there[$0] })
      facts.sample = (read.count, read.reduce(0) { $0 + work[$1].size })
    }
    var waiting = Array(work.enumerated().reversed())
    facts.objects = work.map(\.object)
    try await withThrowingTaskGroup(of: (Int, VerificationFacts.Object).self) { group in
      func start() {
        guard let (index, next) = waiting.popLast() else { return }
        group.addTask { (index, try await look(at: next, readingAll: read.contains(index))) }
      }
      for _ in 0..<4 { start() }
      while let (index, object) = try await group.next() {
        facts.objects[index] = object
        start()
      }
    }
  }

  private func artifacts(
    of backups: [BackupManifest], _ tier: Int, _ facts: VerificationFacts
  ) async throws -> [Work] {
    var work: [Work] = []
    for backup in backups where facts.manifests.contains(where: { $0.tier == tier && $0.backup.id == backup.id }) {
      for artifact in backup.artifacts {
        let presence: VerificationFacts.Object.Presence
        do {
          presence = try await tiers[tier].tier.head(artifact.key).map { .there(size: $0.size) } ?? .absent
        } catch let error as DRError {
          presence = .unknown(error)
        }
        work.append(
          Work(
            object: VerificationFacts.Object(
              tier: tier, owner: "\(backup.component) \(backup.id)", key: artifact.key,
              expectedSize: artifact.storedSize, isSegment: false, presence: presence),
            artifact: (backup, artifact), size: artifact.storedSize))
      }
    }
    return work
  }

  private func segments(_ components: [Component], _ tier: Int) async throws -> [Work] {
    var work: [Work] = []
    for component in components {
      work += try await tiers[tier].logObjects(of: component).map { object in
        Work(
          object: VerificationFacts.Object(
            tier: tier, owner: "\(component) \(object.log)", key: object.key, expectedSize: nil, isSegment: true,
            presence: .there(size: object.size)),
          segment: object, size: object.size)
      }
    }
    return work
  }

  private func look(at work: Work, readingAll: Bool) async throws -> VerificationFacts.Object {
    var object = work.object
    guard case .there(let size) = object.presence else { return object }
    let tier = tiers[object.tier].tier
    if let archive = try? await tier.head(object.key)?.archive, !archive.isReadable {
      let why = VerificationFacts.Look.notDone("it is archived, and can be read only once it is thawed")
      (object.reading, object.digest, object.codec) = (why, why, why)
      return object
    }
    object.reading = try await outcome {
      guard size > 0 else { return }
      var count = 0
      for try await buffer in try await tier.get(object.key, range: 0..<min(size, 4096)) {
        count += buffer.readableBytes
      }
      guard count == min(size, 4096) else {
        throw DRError(
          .truncatedData, "\(count) bytes came of the first \(min(size, 4096))", object: object.key.rawValue)
      }
    }
    guard readingAll else {
      let why = VerificationFacts.Look.notDone(
        settings.level == .metadata ? "the level is metadata" : "it is not in the sample")
      (object.digest, object.codec) = (why, why)
      return object
    }
    let isEncrypted = work.artifact.map { !$0.artifact.recipients.isEmpty } ?? work.segment?.isEncrypted ?? false
    let isOpen = !isEncrypted || !decoding.identities.isEmpty
    let closed = VerificationFacts.Look.notDone("it is encrypted, and no identity was given")
    if let (manifest, artifact) = work.artifact {
      let reader = tiers[object.tier].reader(for: manifest, decoding: decoding)
      object.digest = try await outcome {
        guard isOpen else { return try await reader.verify(artifact) }
        for try await _ in try await reader.read(artifact) {}
      }
      // One reading looks at both: the digest, and each frame on the way to it.
      object.codec = isOpen ? object.digest : closed
    } else if let segment = work.segment {
      object.digest =
        isOpen ? try await outcome { try await tiers[object.tier].verify(segment, decoding: decoding) } : closed
      object.codec = object.digest
    }
    return object
  }

  private func outcome(_ body: () async throws -> Void) async throws -> VerificationFacts.Look {
    do {
      try await body()
      return .good
    } catch let error as DRError {
      return BackupVerifier.damage.contains(error.code) ? .damaged(error) : .obstructed(error)
    }
  }
}
