import DRCore
import Logging

extension Replicator {
  func copyLog(
    _ rule: ChangeLogRule, in folder: BackupFolder, for backups: [BackupManifest], _ logger: Logger,
    _ outcome: inout ReplicationOutcome
  ) async throws {
    let root = "\(folder.path)/\(rule.log)/"
    for system in try await source.tier.folders(below: root) {
      // Who follows the log replaces its end several times a second.
      for _ in 0..<3 where try await copyFolder("\(root)\(system)/", of: system, rule, for: backups, &outcome) { break }
    }
  }

  /// - Returns: Whether everything of it was there: nothing had been replaced since it was listed.
  private func copyFolder(
    _ prefix: String, of system: String, _ rule: ChangeLogRule, for backups: [BackupManifest],
    _ outcome: inout ReplicationOutcome
  ) async throws -> Bool {
    let horizon = rule.horizon(of: backups, for: system)
    func needed(_ listed: [ObjectInfo], _ there: [ObjectKey: ObjectInfo]) -> [ObjectInfo] {
      zip(listed, rule.needed(listed, of: system, by: backups, after: horizon)).filter { object, isNeeded in
        guard isNeeded == true else { return false }
        guard let copy = there[object.key], copy.size == object.size else { return true }
        // A partial one is written anew under the same name.
        return isPartial(object.key) && copy.modified < object.modified
      }.map(\.0)
    }
    let there = Dictionary(
      try await target.tier.listAll(prefix: prefix).map { ($0.key, $0) }
    ) { first, _ in first }
    // Before the segments of which they speak.
    var notes: [ObjectInfo] = []
    if let start = rule.notes { notes = try await source.tier.listAll(prefix: prefix + start) }
    let listed = try await source.tier.listAll(prefix: prefix).filter { !rule.isNote($0.key) }
    var missing = needed(listed, there)
    var differing: [ObjectInfo] = []
    if settings.readsBackAll {
      differing = try await damaged(listed + notes, there, &outcome)
      missing += differing.filter { !rule.isNote($0.key) }
    }
    // Where there is another one by now, either may be the damaged one.
    var contested: [ObjectInfo] = []
    let doubtful =
      missing.filter { there[$0.key] != nil && !isPartial($0.key) } + differing.filter { isPartial($0.key) }
    for object in doubtful {
      if let doubt = try await doubt(object, there[object.key]) {
        outcome.failures[object.key] = doubt
        contested.append(object)
      }
    }
    missing.removeAll { object in contested.contains { $0.key == object.key } }
    // Oldest first: a log with a hole is worth what lies before it.
    let results = try await copy(missing)
    var (isWhole, wasReplaced) = (contested.isEmpty, false)
    for (object, error) in zip(missing, results) {
      guard let error else {
        outcome.segments += 1
        outcome.bytes += object.size
        if outcome.damaged.contains(object.key) { outcome.mended.append(object.key) }
        continue
      }
      isWhole = false
      // Removed since it was listed; or a partial one that has grown: the next run has the newer one.
      if error.code == .objectNotFound || isPartial(object.key) && error.code == .corruptData {
        wasReplaced = true
      } else {
        outcome.failures[object.key] = error
      }
    }
    // Only what covers a shorter one, and that has come, takes its place.
    guard isWhole else { return !wasReplaced }
    try await removeStalePartials(listed, there.filter { !rule.isNote($0.key) }, rule.replaces)
    let mended = differing.filter { object in rule.isNote(object.key) && !contested.contains { $0.key == object.key } }
    let news = needed(notes, there) + mended
    for (note, error) in zip(news, try await copy(news)) {
      if error == nil, outcome.damaged.contains(note.key) { outcome.mended.append(note.key) }
      guard let error, error.code != .objectNotFound, error.code != .corruptData else { continue }
      outcome.failures[note.key] = error
    }
    try await removeStalePartials(notes, there.filter { rule.isNote($0.key) }, nil)
    return true
  }

  private func isPartial(_ key: ObjectKey) -> Bool { SegmentFileName(parsing: key.lastComponent)?.sha256 == nil }

  /// Why a full segment is not to take the place of the one on the other tier: unless it is seen to be what its name says, it may be
  /// the damaged one of the two.
  private func doubt(_ object: ObjectInfo, _ copy: ObjectInfo?) async throws -> DRError? {
    let file = SegmentFileName(parsing: object.key.lastComponent)
    var why = "which of them is whole cannot be seen without the key"
    if let file, !file.encrypted {
      do {
        var digest = StreamDigest()
        let stored = try await source.tier.get(object.key, range: nil)
        for try await buffer in Decoding().decode(
          stored, format: file.format, encrypted: false, expected: nil, object: object.key.rawValue)
        {
          digest.update(buffer)
        }
        // A partial one has no digest in its name, and its frames have sums of their own.
        if file.sha256 == nil || digest.hex() == file.sha256 { return nil }
        why = "the one here is damaged"
      } catch let error as DRError where [.corruptData, .malformedData, .truncatedData].contains(error.code) {
        why = "the one here is damaged: \(error.message)"
      } catch let error as DRError where error.code == .objectNotFound {
        // Removed since it was listed.
        return nil
      }
    }
    let sizes = copy.map { $0.size == object.size ? "" : " (\(object.size) bytes here, \($0.size) there)" } ?? ""
    return DRError(
      .corruptData, "the segment on \(target.tier.name) is another one\(sizes), and \(why): it was left as it is",
      advice:
        "find the damaged one (dr-postgres check-wal, dr-redis check), remove it, and replicate from the other tier",
      object: object.key.rawValue)
  }

  private func copy(_ objects: [ObjectInfo]) async throws -> [DRError?] {
    try await concurrently(objects, limit: settings.concurrency) { object in
      try await failure {
        let sent = try await send(object.key, size: object.size, sha256: nil)
        if !isArchived { try await verify(object.key, object.size, sent) }
      }
    }
  }

  /// Copies of segments, also partial ones, that are not what the repository has. Those that went or grew meanwhile are not among them: the
  /// next round sees them as they are by then.
  private func damaged(
    _ listed: [ObjectInfo], _ there: [ObjectKey: ObjectInfo], _ outcome: inout ReplicationOutcome
  ) async throws -> [ObjectInfo] {
    let same = listed.filter { there[$0.key]?.size == $0.size && SegmentFileName(parsing: $0.key.lastComponent) != nil }
    enum Seen { case whole, damaged, archived, gone }
    let seen = try await concurrently(same, limit: settings.concurrency) { object -> Seen in
      if let archive = there[object.key]?.archive, !archive.isReadable { return .archived }
      do {
        if try await digest(object.key, on: target.tier) == digest(object.key, on: source.tier) { return .whole }
        let now = try await source.tier.head(object.key)
        return now.map { $0.modified == object.modified && $0.size == object.size } ?? false ? .damaged : .gone
      } catch let error as DRError where error.code == .objectArchived {
        return .archived
      } catch let error as DRError where error.code == .objectNotFound {
        return .gone
      }
    }
    let damaged = zip(same, seen).filter { $0.1 == .damaged }.map(\.0)
    outcome.readBack += seen.count { $0 == .whole || $0 == .damaged }
    outcome.archived += seen.count { $0 == .archived }
    outcome.damaged += damaged.map(\.key)
    return damaged
  }

  private func digest(_ key: ObjectKey, on tier: any StorageTier) async throws -> String {
    var digest = StreamDigest()
    for try await buffer in try await tier.get(key, range: nil) { digest.update(buffer) }
    return digest.hex()
  }

  /// Partial segments that are full by now, or were replaced by longer ones, as at the source. One that the source has lost
  /// stays.
  private func removeStalePartials(
    _ listed: [ObjectInfo], _ there: [ObjectKey: ObjectInfo],
    _ replaces: (@Sendable (_ partial: String, _ other: String) -> Bool)?
  ) async throws {
    let atSource = Set(listed.map(\.key))
    let files = listed.compactMap { SegmentFileName(parsing: $0.key.lastComponent) }
    let newest = listed.last?.key
    for key in there.keys.sorted() where !atSource.contains(key) {
      guard let file = SegmentFileName(parsing: key.lastComponent), file.sha256 == nil, let newest, key < newest else {
        continue
      }
      if let replaces, !files.contains(where: { $0.name == file.name || replaces(file.name, $0.name) }) { continue }
      try await target.tier.delete(key)
    }
  }
}
