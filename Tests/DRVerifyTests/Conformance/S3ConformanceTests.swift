import DRCore
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import Logging
import Testing

/// The suite of every tier, against buckets on real servers.
@Suite(.serialized) struct S3ConformanceTests {
  @Test("A bucket keeps the contract, on each server", arguments: S3TestServer.Kind.allCases)
  func bucket(kind: S3TestServer.Kind) async throws {
    let server = try await S3TestServer.shared(kind)
    var settings = StorageTierConformance.Settings()
    settings.largeSize = 12 << 20
    let lockable = kind != .swift
    try await server.withTier(objectLock: lockable) { tier in
      let report = try await StorageTierConformance(tier, settings: settings)
        .run(logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
      print(report.text)
      #expect(report.isConformant, "\(report.text)")
      #expect(try await tier.listAll(prefix: "").isEmpty)
    }
  }
}
