import Foundation
import Synchronization

/// One commit that the server confirmed.
struct LedgerEntry: Hashable, Codable, Sendable {
  var writer: Int
  var sequence: Int
  /// The commit's own time, as the server wrote it into the WAL: microseconds since 1970.
  var committed: Int64
}

/// What the writers know to be committed: kept outside the server, so that it survives the disaster.
final class Ledger: Sendable {
  private let state = Mutex<[LedgerEntry]>([])

  func add(_ entry: LedgerEntry) { state.withLock { $0.append(entry) } }

  var entries: [LedgerEntry] { state.withLock { $0 } }
  var count: Int { state.withLock { $0.count } }
}

/// What a restored server has, held against what was committed.
struct LedgerComparison: Sendable {
  /// Confirmed commits that should be there and are not.
  var missing: [LedgerEntry]
  /// Commits that should not be there and are.
  var unexpected: [LedgerEntry]
  var matching: Int

  var isExact: Bool { missing.isEmpty && unexpected.isEmpty }

  /// - Parameters:
  ///   - target: Everything up to this commit time should be there and nothing after; nil: everything should.
  init(known: [LedgerEntry], found: [LedgerEntry], target: Int64?) {
    let found = Set(found)
    let wanted = Set(known.filter { entry in target == nil || entry.committed <= (target ?? 0) })
    missing = wanted.subtracting(found).sorted { $0.committed < $1.committed }
    // To the end of the WAL a commit may come back whose confirmation the kill cut off.
    unexpected = found.subtracting(wanted).filter { entry in target.map { entry.committed > $0 } ?? false }
      .sorted { $0.committed < $1.committed }
    matching = wanted.intersection(found).count
  }
}
