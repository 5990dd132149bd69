import DRCore
import NIOCore

import struct Foundation.Date
import class Foundation.JSONDecoder
import class Foundation.JSONEncoder

/// What prunings have decided about one component's backups, as objects in the tier.
///
///     postgres/prune/backup_20261123_020000.0001.mark       it is to go after a grace period
///     postgres/prune/backup_20261123_020000.0001.verdict    it goes now, or it stays: whichever is put first
///
/// A verdict is put only if it is absent, so it is one, for good, whoever else had another plan: a pruning that was stopped
/// for a day and goes on finds it. After a verdict to stay, the next generation may mark it again. After a verdict to go,
/// nothing brings the backup back, so to remove it twice, or late, harms nothing.
struct PruneLedger: Sendable {
  enum Verdict: String, Codable, Sendable {
    case go
    case stay
  }

  /// A mark, or a verdict.
  struct Entry: Codable, Sendable {
    var backup: String
    var verdict: Verdict?
    var reason: String
    /// ISO 8601.
    var at: String
    /// The fencing token of the lease under which it was written, and who held it.
    var token: Int64
    var owner: String
  }

  /// Where one backup stands: its latest generation.
  struct Standing: Sendable {
    var generation: Int
    /// When it was marked, on the tier's clock.
    var marked: Date
    var verdict: Verdict?
    /// When the verdict was put, on the tier's clock.
    var decided: Date?

    /// It is to go, and may still stay.
    var isMarked: Bool { verdict == nil }
    /// It goes, or is gone.
    var isCondemned: Bool { verdict == .go }
  }

  let tier: any StorageTier
  let folder: BackupFolder

  private var prefix: String { "\(folder.path)/prune/" }

  private func key(_ id: String, _ generation: Int, _ ending: String) throws -> ObjectKey {
    let digits = String(generation)
    return try ObjectKey("\(prefix)\(id).\(String(repeating: "0", count: max(0, 4 - digits.count)))\(digits).\(ending)")
  }

  /// By identity.
  func standings() async throws -> [String: Standing] {
    var marks: [String: [Int: Date]] = [:]
    var verdicts: [String: [Int: (key: ObjectKey, at: Date)]] = [:]
    for object in try await tier.listAll(prefix: prefix) {
      let parts = (object.key.rest(after: prefix) ?? "").split(separator: ".", omittingEmptySubsequences: false)
      guard parts.count == 3, BackupID.isValid(String(parts[0])), let generation = Int(parts[1]) else { continue }
      let id = String(parts[0])
      if parts[2] == "mark" { marks[id, default: [:]][generation] = object.modified }
      if parts[2] == "verdict" { verdicts[id, default: [:]][generation] = (object.key, object.modified) }
    }
    var standings: [String: Standing] = [:]
    for (id, generations) in marks {
      guard let latest = generations.max(by: { $0.key < $1.key }) else { continue }
      var standing = Standing(generation: latest.key, marked: latest.value)
      if let verdict = verdicts[id]?[latest.key] {
        standing.verdict = try await read(verdict.key)?.verdict
        standing.decided = verdict.at
      }
      standings[id] = standing
    }
    return standings
  }

  /// Marks a backup to go. True unless another pruning did so at the same time.
  func mark(_ id: String, after standing: Standing?, reason: String, at: Date, _ lease: Lease?) async throws -> Bool {
    let generation = (standing?.generation ?? 0) + 1
    return try await put(
      key(id, generation, "mark"),
      Entry(
        backup: id, reason: reason, at: Timestamp.format(at), token: lease?.token ?? 0,
        owner: lease?.owner ?? RandomName.hex()))
  }

  /// Puts a verdict, and gives the one that counts: the first.
  func decide(
    _ id: String, _ standing: Standing, _ verdict: Verdict, reason: String, at: Date, _ lease: Lease?
  ) async throws -> Verdict? {
    let key = try key(id, standing.generation, "verdict")
    let entry = Entry(
      backup: id, verdict: verdict, reason: reason, at: Timestamp.format(at), token: lease?.token ?? 0,
      owner: lease?.owner ?? RandomName.hex())
    if try await put(key, entry) { return verdict }
    return try await read(key)?.verdict
  }

  /// Removes what is known of a backup that went long ago.
  func forget(_ id: String, through generation: Int) async throws {
    for number in 1...max(1, generation) {
      // The mark first: a verdict without a mark says nothing.
      try await tier.delete(key(id, number, "mark"))
      try await tier.delete(key(id, number, "verdict"))
    }
  }

  private func put(_ key: ObjectKey, _ entry: Entry) async throws -> Bool {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    let body = ByteBuffer(bytes: try encoder.encode(entry))
    do {
      _ = try await tier.put(key, ByteStream(body), PutOptions(onlyIfAbsent: true))
      return true
    } catch let error as DRError where error.code == .objectExists {
      return false
    }
  }

  /// Nil for one that cannot be read: then nothing is known, and nothing goes.
  private func read(_ key: ObjectKey) async throws -> Entry? {
    do {
      let buffer = try await tier.read(key, limit: 1 << 16)
      return try? JSONDecoder().decode(Entry.self, from: .init(buffer.readableBytesView))
    } catch let error as DRError where error.code == .objectNotFound || error.code == .malformedData {
      return nil
    }
  }
}
