import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// What the names of a log's segments say of what is missing.
struct ChangeLogGapTests {
  private static let id = String(repeating: "a", count: 40)

  private func redis(_ properties: [String: JSONValue] = [:]) throws -> BackupManifest {
    let point = RecoveryPoint(time: Date(), position: "100", history: Self.id)
    return BackupManifest(
      id: "backup_20261127_000000", component: try Component(parsing: "redis/cache"), cadence: .daily, started: Date(),
      ended: Date(),
      capture: Capture(recoveryPoint: point, changesFrom: point, method: .snapshot, properties: properties),
      artifacts: [])
  }

  private func names(_ ranges: [ClosedRange<Int>], head: Int? = nil) -> Set<String> {
    func digits(_ number: Int) -> String { String(format: "%020d", number) }
    return Set(ranges.map { "\(digits($0.lowerBound))-\(digits($0.upperBound))-\(Self.id)" })
      .union(head.map { ["head-\(digits($0))-\(Self.id)"] } ?? [])
  }

  @Test("Of Redis: a hole, a beginning that is missing, an end that a note knows, and a log that is gone")
  func changes() throws {
    let gap = ChangeLogRule.aof.gap
    let backup = try redis()
    #expect(gap(names([50...150, 150...300], head: 300), backup) == nil)
    #expect(gap(names([0...90, 90...400, 300...500]), backup) == nil, "overlapping ones")
    #expect(gap(names([50...150, 160...300]), backup)?.evidence.contains("from offset 150 to 160") == true)
    #expect(gap(names([120...150]), backup)?.evidence.contains("from offset 100 to 120") == true)
    #expect(gap(names([50...150], head: 300), backup)?.evidence.contains("from offset 150 to 300 were stored") == true)
    #expect(gap([], backup) == nil, "nobody follows it")
    for property in [
      ("changeLogFollows", JSONValue.bool(true)), ("changeLogStoredThrough", .string("\(Self.id):400")),
    ] {
      let followed = try redis([property.0: property.1])
      #expect(gap([], followed)?.evidence.contains("is gone") == true, "\(property)")
      #expect(gap(names([50...150]), followed) == nil)
    }
    let other = try redis(["changeLogStoredThrough": .string(String(repeating: "b", count: 40) + ":400")])
    #expect(gap([], other) == nil, "that of another history")
  }

  @Test(
    "Of PostgreSQL: from where the backup begins on, over the end of a block of names, and not for one with its own WAL"
  )
  func wal() throws {
    func backup(_ position: String, _ end: String, includes: Bool = false) throws -> BackupManifest {
      let now = Date()
      return BackupManifest(
        id: "backup_20261127_000000", component: try Component(parsing: "postgres/app"), cadence: .daily, started: now,
        ended: now,
        capture: Capture(
          recoveryPoint: RecoveryPoint(time: now, position: end, history: "1"),
          changesFrom: RecoveryPoint(time: now, position: position, history: "1"), method: .basebackup,
          properties: ["walSegmentSize": .integer(16 << 20), "walIncluded": .bool(includes)]), artifacts: [])
    }
    let gap = ChangeLogRule.wal.gap
    func names(_ numbers: [(Int, Int)]) -> Set<String> {
      Set(numbers.map { String(format: "00000001%08X%08X", $0.0, $0.1) })
    }
    let over = try backup("0/FE000028", "0/FF000100")
    #expect(gap(names([(0, 0xFE), (0, 0xFF), (1, 0), (1, 1)]), over) == nil)
    let hole = try #require(gap(names([(0, 0xFE), (0, 0xFF), (1, 1)]), over))
    #expect(hole.evidence.contains("…0000000100000000 is missing") && !hole.preventsRestore)
    #expect(gap(names([(0, 0xFF), (1, 0)]), over)?.preventsRestore == true)
    #expect(gap(names([(0, 0xFE)]), over)?.preventsRestore == true, "it ends before the backup does")
    #expect(gap([], over)?.preventsRestore == true)
    let own = try backup("0/FE000028", "0/FF000100", includes: true)
    #expect(gap([], own) == nil && gap(names([(0, 0xFF), (1, 0)]), own) == nil)
    #expect(gap(names([(0, 0xFF), (1, 1)]), own)?.preventsRestore == false)
    // Partial ones count; histories and labels do not.
    let partial = names([(0, 0xFE)]).union(["0000000100000000000000FF.00000100", "00000002.history"])
    #expect(gap(partial, over) == nil)
    #expect(gap(["0000000100000000000000FE.00000028.backup"], over)?.preventsRestore == true)
  }
}
