import DRCore
import DRStorage
import DRTestSupport
import DRVerify
import Logging
import NIOCore
import Testing

/// The verifier passes what is sound, and is itself seen to fail on everything that is not.
@Suite struct BackupVerifierTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  /// A source of two artifacts.
  private struct Source: BackupSource {
    let component: Component
    var parent: String?

    func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
      try await writer.write("one", ByteStream(TestData.rows(300_000)), expectedLength: nil)
      try await writer.write("two", ByteStream(TestData.rows(70_000, seed: 5)), expectedLength: nil)
      return Capture(recoveryPoint: RecoveryPoint(time: .now, position: "1"), parent: parent, method: .snapshot)
    }
  }

  private func withBackup(
    _ encoding: Encoding = Encoding(frameSize: 64 << 10),
    _ body: (BackupManifest, Repository) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      let repository = Repository(tier: try await LocalTier(root: folder + "/tier", creating: true))
      let source = Source(component: try Component(.config, "test"))
      let manifest = try await repository.backUp(source, cadence: .daily, encoding: encoding, logger: Self.logger)
      try await body(manifest, repository)
    }
  }

  private func verify(
    _ manifest: BackupManifest, _ repository: Repository, _ level: BackupVerifier.Level = .data,
    _ decoding: Decoding = Decoding()
  ) async -> VerificationReport {
    await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: repository, level: level, decoding: decoding), logger: Self.logger)
  }

  @Test("A sound backup passes, one finding for each artifact and check")
  func sound() async throws {
    try await withBackup { manifest, repository in
      let data = await verify(manifest, repository)
      #expect(data.verdict == .passed)
      #expect(data.findings.count == 4)
      #expect(await verify(manifest, repository, .metadata).findings.count == 2)
    }
  }

  @Test("A flipped bit at any place fails and names the object")
  func flipped() async throws {
    try await withBackup { manifest, repository in
      var random = TestData.Random(seed: 7)
      for artifact in manifest.artifacts {
        for _ in 0..<40 {
          let offset = Int64.random(in: 0..<artifact.storedSize, using: &random)
          let damaged = Repository(tier: DamagedTier(repository.tier, damaging: artifact.key, at: offset))
          let report = await verify(manifest, damaged)
          #expect(report.verdict == .failed, "byte \(offset)")
          #expect(report.findings.filter { $0.severity == .failure }.map(\.subject) == [artifact.key.rawValue])
        }
      }
    }
  }

  @Test("A backup that goes on from a damaged one fails when its bytes are read; by presence alone it says so")
  func damagedBase() async throws {
    try await withBackup { base, repository in
      let source = Source(component: base.component, parent: base.id)
      let child = try await repository.backUp(source, cadence: .daily, logger: Self.logger)
      #expect(await verify(child, repository).verdict == .passed)
      let key = base.artifacts[1].key
      var content = try await repository.tier.read(key)
      content.setInteger((content.getInteger(at: 1000, as: UInt8.self) ?? 0) ^ 1, at: 1000)
      _ = try await repository.tier.put(key, ByteStream(content), PutOptions())
      let report = await verify(child, repository)
      #expect(report.verdict == .failed)
      #expect(report.findings.contains { $0.severity == .failure && $0.subject == key.rawValue })
      let presence = await verify(child, repository, .metadata)
      #expect(presence.verdict == .passed)
      #expect(presence.findings.contains { $0.check == "backup-chain" && $0.evidence.contains("by presence and size") })
    }
  }

  @Test("A missing artifact, and one of another size, fail at every level")
  func missing() async throws {
    try await withBackup { manifest, repository in
      let (one, two) = (manifest.artifacts[0], manifest.artifacts[1])
      try await repository.tier.delete(one.key)
      _ = try await repository.tier.put(two.key, ByteStream(ByteBuffer(string: "short")), PutOptions())
      for level in BackupVerifier.Level.allCases {
        let report = await verify(manifest, repository, level)
        #expect(report.verdict == .failed)
        #expect(
          Set(report.findings.filter { $0.severity == .failure }.map(\.subject)) == [
            one.key.rawValue, two.key.rawValue,
          ])
      }
      var empty = manifest
      empty.artifacts = []
      #expect(await verify(empty, repository).verdict == .failed)
    }
  }

  @Test("What could not be looked at does not pass, and is no failure of the backup")
  func obstacle() async throws {
    let identity = AgeIdentity.generate()
    let encoding = Encoding(recipients: [try #require(identity.recipient)])
    try await withBackup(encoding) { manifest, repository in
      #expect(await verify(manifest, repository, .data, Decoding(identities: [identity])).verdict == .passed)
      let without = await verify(manifest, repository)
      #expect(without.verdict == .couldNotVerify)
      #expect(without.obstacle?.contains("no-matching-identity") == true)
      #expect(without.verdict.exitCode == 2)
    }
  }

  @Test("A report without a check that passed is no proof")
  func vacuous() {
    let notice = Finding("row-count", .notice, subject: "t", evidence: "there is no expectation")
    for findings in [[], [notice]] {
      #expect(VerificationReport(subject: "x", findings: findings, duration: .zero).verdict == .couldNotVerify)
    }
    let passed = Finding("row-count", .passed, subject: "t", evidence: "10 rows")
    #expect(VerificationReport(subject: "x", findings: [notice, passed], duration: .zero).verdict == .passed)
    #expect(
      VerificationReport(subject: "x", findings: [passed], obstacle: "cut off", duration: .zero).verdict
        == .couldNotVerify)
  }
}
