import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore

/// A repository of small PostgreSQL backups with a log, made without a server: for what the programs say of repositories.
struct SmallRepository {
  static let component = "postgres/app"
  let tier: any StorageTier
  private let store: ChangeLogStore

  /// - Parameter place: A folder that is made if it is not there.
  init(at place: String) async throws { try await self.init(on: LocalTier(root: place, creating: true)) }

  init(on tier: any StorageTier) async throws {
    self.tier = tier
    store = try ChangeLogStore(
      tier: tier, component: Component(parsing: Self.component), systemIdentifier: "7301")
  }

  static func segment(_ number: Int) -> String { "0000000100000000000000" + String(format: "%02X", number) }

  /// Stores segments of the log.
  func log(_ numbers: ClosedRange<Int>) async throws {
    for number in numbers {
      _ = try await store.put(Self.segment(number), TestData.rows(5_000, seed: UInt64(number)))
    }
  }

  @discardableResult
  func backUp(goingOnFrom parent: String? = nil) async throws -> BackupManifest {
    try await Repository(tier: tier).backUp(
      Source(component: try Component(parsing: Self.component), parent: parent), cadence: .daily, encoding: Encoding(),
      logger: Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() }))
  }

  private struct Source: BackupSource {
    var component: Component
    var parent: String?

    func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
      let content = TestData.rows(50_000)
      try await writer.write("base.tar", ByteStream(content), expectedLength: Int64(content.readableBytes))
      let point = RecoveryPoint(time: Date(), position: "0/1000028", history: "1")
      return Capture(
        recoveryPoint: point, changesFrom: point, parent: parent, method: .basebackup, serverVersion: "15.18",
        systemIdentifier: "7301", properties: ["walSegmentSize": .integer(16 << 20)])
    }
  }
}
