import DRCore
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import Logging
import NIOCore

/// A repository and its copy, in memory, under a clock: five daily backups of a database with its log, and of a tree a whole backup and
/// one that goes on from it. All as it should be, until something is done to it.
struct VerifiedPlace: Sendable {
  static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
  static let day = 86_400.0
  /// Half an hour after the last backups.
  static let now = Date(timeIntervalSince1970: 1_790_000_000)

  let clock: MutableBox<Date>
  let tiers: [InMemoryTier]
  let database: Component
  let tree: Component

  init() async throws {
    let clock = MutableBox(Self.now)
    self.clock = clock
    tiers = ["repository", "copy"].map { InMemoryTier(name: $0, now: { clock.value }) }
    database = try Component(.postgres, "app")
    tree = try Component(.config, "tree")
  }

  static func healthy() async throws -> VerifiedPlace {
    let place = try await VerifiedPlace()
    for day in 0..<5 {
      place.clock.withLock { $0 = now.addingTimeInterval(-1800 - Double(4 - day) * VerifiedPlace.day) }
      try await place.log(day + 1, on: place.tiers[0])
      try await place.backUp(place.database, size: 100_000 + day * 500)
    }
    let whole = try await place.backUp(place.tree, size: 50_000)
    place.clock.withLock { $0 = now.addingTimeInterval(-1700) }
    try await place.backUp(place.tree, size: 2_000, parent: whole.id)
    try await place.replicate()
    place.clock.withLock { $0 = now }
    return place
  }

  func replicate() async throws {
    _ = try await Replicator(from: repository(0), to: repository(1)).run(logger: Self.logger)
  }

  func repository(_ index: Int) -> Repository {
    let clock = clock
    return Repository(tier: tiers[index], now: { clock.value })
  }

  func log(_ number: Int, on tier: InMemoryTier) async throws {
    _ = try await ChangeLogStore(tier: tier, component: database, systemIdentifier: "7301")
      .put("00000001000000000000000\(number)", TestData.rows(5_000, seed: UInt64(number)))
  }

  @discardableResult
  func backUp(
    _ component: Component, size: Int, parent: String? = nil, from position: String = "0/1000028", on index: Int = 0
  ) async throws -> BackupManifest {
    let source = Source(component: component, size: size, parent: parent, time: clock.value, position: position)
    return try await repository(index).backUp(
      source, cadence: .daily, encoding: Encoding(frameSize: 32 << 10), logger: Self.logger)
  }

  private struct Source: BackupSource {
    var component: Component
    var size: Int
    var parent: String?
    var time: Date
    /// Of a database: where its log begins.
    var position: String

    func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
      try await writer.write("data", ByteStream(TestData.rows(size)), expectedLength: nil)
      let isDatabase = component.kind == .postgres
      let point = RecoveryPoint(time: time, position: isDatabase ? position : "1")
      return Capture(
        recoveryPoint: point, changesFrom: isDatabase ? point : nil, parent: parent,
        method: isDatabase ? .basebackup : .files, systemIdentifier: isDatabase ? "7301" : nil,
        properties: isDatabase ? ["walSegmentSize": .integer(16 << 20)] : [:])
    }
  }

  // MARK: Doing something to it

  func newest(_ component: Component, on index: Int = 0) async throws -> BackupManifest {
    try await repository(index).catalog(of: component).backup(of: component, for: .latest)
  }

  func manifestKey(_ backup: BackupManifest) throws -> ObjectKey {
    try ObjectKey("\(backup.component.kind)/metadata/\(backup.id).json")
  }

  func change(_ key: ObjectKey, on index: Int, _ body: (inout [UInt8]) throws -> Void) async throws {
    var bytes = Array(try await tiers[index].read(key).readableBytesView)
    try body(&bytes)
    _ = try await tiers[index].put(key, ByteStream(ByteBuffer(bytes: bytes)), PutOptions())
  }

  /// Rewrites a manifest, with a digest that is right.
  func rewrite(_ backup: BackupManifest, on index: Int, _ body: (inout BackupManifest) -> Void) async throws {
    var changed = backup
    body(&changed)
    let json = Array(try changed.json())
    try await change(manifestKey(backup), on: index) { $0 = json }
  }

  func segment(_ number: Int, on index: Int) async throws -> ObjectKey {
    let all = try await tiers[index].listAll(prefix: "postgres/wal/7301/00000001000000000000000\(number)")
    return all[0].key
  }
}
