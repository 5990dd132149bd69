import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What is spoiled: an operation on a repository, whose tier may fail, and what must hold whatever happened to it.
///
/// After each case: either the operation succeeded and everything reads back, or it reported a failure and everything that
/// was committed before reads back; and done again, undisturbed, it ends well.
struct FaultMatrix {
  enum Operation: String, CaseIterable, Sendable {
    case put, multipart, copy, commit, prune, replicate
  }

  /// Small, so that a case takes milliseconds; large enough for several frames.
  private static func old() throws -> MemorySource { try .small(seed: 1) }
  private static func new() throws -> MemorySource { try .small(seed: 7) }
  static let content = TestData.rows(40_000, seed: 3)
  static let large = TestData.rows(11 << 20, seed: 4)

  let operation: Operation
  /// The tier as it is.
  let direct: any StorageTier
  /// Another tier, for copies.
  let other: any StorageTier
  /// The one by which a tier tells the age of a mark.
  private let now: @Sendable () -> Date = { Date() }

  init(operation: Operation, direct: any StorageTier, other: any StorageTier) {
    self.operation = operation
    self.direct = direct
    self.other = other
  }

  /// What is there before: a backup on each tier; for a pruning one more, marked.
  func prepare() async throws -> BackupManifest {
    let source = Repository(tier: operation == .replicate ? other : direct, now: now)
    let first = try await source.backUp(Self.old(), cadence: .daily, encoding: smallFrames, logger: quiet)
    if operation == .replicate {
      _ = try await Replicator(from: source, to: Repository(tier: direct, now: now)).run(logger: quiet)
    }
    switch operation {
    case .replicate: _ = try await source.backUp(Self.new(), cadence: .daily, encoding: smallFrames, logger: quiet)
    case .prune:
      _ = try await source.backUp(Self.new(), cadence: .daily, encoding: smallFrames, logger: quiet)
      _ = try await source.prune(RetentionPolicy([.newest(1)]), grace: .zero, logger: quiet)
    default: break
    }
    _ = try await direct.put(ObjectKey("loose/a"), ByteStream(Self.content), PutOptions())
    return first
  }

  /// Does it on the tier that fails.
  func run(_ tier: any StorageTier) async throws {
    let repository = Repository(tier: tier, now: now)
    switch operation {
    case .put: _ = try await tier.put(ObjectKey("loose/b"), ByteStream(Self.content), PutOptions())
    case .multipart:
      _ = try await tier.put(
        ObjectKey("loose/b"), ByteStream(TestData.pieces(of: Self.large, upTo: 900_000)), PutOptions())
    case .copy: _ = try await tier.copy(ObjectKey("loose/a"), to: ObjectKey("loose/b"), PutOptions())
    case .commit: _ = try await repository.backUp(Self.new(), cadence: .daily, encoding: smallFrames, logger: quiet)
    case .prune: _ = try await repository.prune(RetentionPolicy([.newest(1)]), grace: .zero, logger: quiet)
    case .replicate:
      let outcome = try await Replicator(from: Repository(tier: other, now: now), to: repository).run(
        logger: quiet)
      if let failure = outcome.failures.values.first { throw failure }
    }
  }

  /// Does it again, undisturbed, until it has done all that it does.
  func finish() async throws {
    // A pruning that could not read a manifest has taken a mark back, and marks anew.
    for _ in 0..<(operation == .prune ? 3 : 1) { try await run(direct) }
  }

  /// What holds after a case; with `finished`, after it was done again.
  func check(_ first: BackupManifest, succeeded: Bool, finished: Bool = false, _ comment: Comment) async throws {
    let repository = Repository(tier: direct, now: now)
    let catalog = try await repository.catalog()
    #expect(catalog.unreadable.isEmpty, comment)
    for backup in catalog.backups {
      let contents: [String: ByteBuffer]
      do {
        contents = try await repository.contents(backup)
      } catch {
        let age = backup.id == first.id ? "older" : "newer"
        Issue.record("\(comment.rawValue), finished \(finished): the \(age) backup: \(error)")
        continue
      }
      let source = backup.id == first.id ? try Self.old() : try Self.new()
      #expect(contents == source.artifacts, comment)
    }
    #expect(try await direct.read(ObjectKey("loose/a")) == Self.content, comment)
    let hasNew = catalog.backups.contains { $0.id != first.id }
    switch operation {
    case .put, .multipart, .copy:
      let wanted = operation == .multipart ? Self.large : Self.content
      let found = try await direct.head(ObjectKey("loose/b"))
      if succeeded { #expect(found != nil, comment) }
      if found != nil { #expect(try await direct.read(ObjectKey("loose/b")) == wanted, comment) }
      #expect(catalog.backups == [first], comment)
    case .commit, .replicate:
      #expect(catalog.backups.contains(first), comment)
      if succeeded { #expect(hasNew, comment) }
    case .prune:
      // The newer one stays, whatever became of the other.
      #expect(hasNew, comment)
      if finished { #expect(catalog.backups.count == 1, comment) }
    }
  }

  /// Removes everything, so that the next case starts anew.
  func reset() async throws {
    for tier in [direct, other] {
      let keys = try await tier.listAll(prefix: "").map(\.key)
      let failures = try await tier.deleteAll(keys)
      if let failure = failures.values.first { throw failure }
      _ = try await tier.removeAbandonedUploads(olderThan: .distantFuture)
    }
  }
}

extension MemorySource {
  static func small(seed: UInt64) throws -> MemorySource {
    MemorySource(
      component: try .postgres("app"),
      artifacts: ["base.tar": TestData.rows(150_000, seed: seed), "label": TestData.rows(200, seed: seed + 1)],
      recoveryPoint: RecoveryPoint(
        time: Date(timeIntervalSince1970: 1_790_000_000 + Double(seed)), position: "0/2000028", history: "1"))
  }
}
