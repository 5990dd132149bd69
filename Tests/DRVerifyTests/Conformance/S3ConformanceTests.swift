import DRCore
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import Logging
import Testing

/// The suite of every tier, against buckets on real servers.
@Suite(.serialized) struct S3ConformanceTests {
  @Test(
    "A bucket keeps the contract, on each server, with Object Lock where there is one and without",
    arguments: [
      (S3TestServer.Kind.swift, false), (.ceph, false), (.ceph, true), (.moto, false), (.moto, true),
    ])
  func bucket(kind: S3TestServer.Kind, objectLock: Bool) async throws {
    let server = try await S3TestServer.shared(kind)
    var settings = StorageTierConformance.Settings()
    settings.largeSize = 12 << 20
    try await server.withTier(objectLock: objectLock) { tier in
      let report = try await StorageTierConformance(tier, settings: settings)
        .run(logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
      print(report.text)
      #expect(report.isConformant, "\(report.text)")
      #expect(try await tier.listAll(prefix: "").isEmpty)
    }
  }
}
