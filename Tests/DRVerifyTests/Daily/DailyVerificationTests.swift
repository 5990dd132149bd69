import DRCore
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import Logging
import NIOCore
import Testing

/// A repository that is as it should be passes; each damage is found by the check that is for it.
@Suite struct DailyVerificationTests {
  private func healthy(
    _ settings: VerificationSettings = VerificationSettings(), copies: Bool = true
  ) async throws -> DailyVerification {
    let place = try await VerifiedPlace.healthy()
    return DailyVerification(
      place.repository(0), copies: copies ? [place.repository(1)] : [], settings: settings, now: { VerifiedPlace.now })
  }

  @Test("A healthy repository and its copy pass every check but those for which there is nothing to look at")
  func healthyPlace() async throws {
    let report = try await healthy().report(logger: VerifiedPlace.logger)
    #expect(report.verdict == .passed, "\(report.findings.filter { $0.severity > .notice })")
    let checks = Set(VerificationRule.all.map(\.name)).subtracting(["data-sample"])
    #expect(Set(report.findings.filter { $0.severity == .passed }.map(\.check)) == checks)
    // An increment has no size to expect, and a tree no log.
    let notChecked = report.findings.filter { $0.severity == .notChecked }
    #expect(
      Set(notChecked.map { "\($0.check) \($0.subject.prefix(11))" }) == [
        "backup-size config/tree", "log-complete config/tree",
      ])
    #expect(report.sentence.hasSuffix("2 not checked"), "\(report.sentence)")
  }

  @Test("Each damage is found by the check that is for it, and nothing passes", arguments: Damage.allCases)
  func damage(damage: Damage) async throws {
    let report = await (try await damage.verification()).report(logger: VerifiedPlace.logger)
    let (check, severity) = damage.expected
    #expect(report.findings.contains { $0.check == check && $0.severity == severity }, "\(report.findings)")
    #expect(report.verdict == (severity == .failure ? .failed : .couldNotVerify), "\(report.sentence)")
    let silent = report.findings.filter { $0.severity >= .couldNotVerify && ($0.evidence.isEmpty || $0.advice == nil) }
    #expect(silent.isEmpty, "each says what to do: \(silent)")
  }

  @Test("With too little history no size is expected, which is not checked and never passed")
  func history() async throws {
    var settings = VerificationSettings()
    settings.minimumHistory = 5
    let report = try await healthy(settings).report(logger: VerifiedPlace.logger)
    let sizes = report.findings.filter { $0.check == "backup-size" }
    #expect(sizes.count == 2 && sizes.allSatisfy { $0.severity == .notChecked })
    #expect(sizes.contains { $0.evidence.contains("there are 4 earlier ones") && $0.evidence.contains("5 are needed") })
  }

  @Test("Without a copy, and by metadata alone, what was not looked at says why")
  func notChecked() async throws {
    var settings = VerificationSettings()
    settings.level = .metadata
    let report = try await healthy(settings, copies: false).report(logger: VerifiedPlace.logger)
    #expect(report.verdict == .passed)
    func why(_ check: String) -> Set<String> {
      Set(report.findings.filter { $0.check == check && $0.severity == .notChecked }.map(\.evidence))
    }
    for check in ["copy-present", "backup-on-copy", "log-on-copy", "backup-in-repository", "log-in-repository"] {
      #expect(why(check) == ["no copy of the repository was named"])
    }
    #expect(why("artifact-digest") == ["the level is metadata"])
    #expect(!report.findings.contains { $0.check == "artifact-digest" && $0.severity == .passed })
    #expect(report.findings.contains { $0.check == "artifact-readable" && $0.severity == .passed })
  }

  @Test("A sample reads the same objects for the same seed, names it, and its parts together read everything")
  func sample() async throws {
    func read(_ text: String, seed: UInt64 = 0) async throws -> (Set<String>, VerificationReport) {
      var settings = VerificationSettings()
      settings.level = .sample(try DataSample(parsing: text, seed: seed))
      settings.allBackups = true
      let report = try await healthy(settings).report(logger: VerifiedPlace.logger)
      #expect(report.verdict == .passed, "\(text): \(report.sentence)")
      return (
        Set(report.findings.filter { $0.check == "artifact-digest" && $0.severity == .passed }.map(\.subject)), report
      )
    }
    let first = try await read("30%", seed: 42)
    #expect(try await read("30%", seed: 42).0 == first.0)
    #expect(try await read("30%", seed: 43).0 != first.0)
    let named = first.1.findings.first { $0.check == "data-sample" }
    // Seven backups on two tiers, and ten segments.
    #expect(named?.evidence.hasPrefix("30 % by seed 42: 8 of 24 objects") == true, "\(String(describing: named))")
    var all: Set<String> = []
    for part in 1...4 {
      let own = try await read("\(part)/4").0
      #expect(all.isDisjoint(with: own))
      all.formUnion(own)
    }
    #expect(all.count == 14)
    let bytes = try await read("1B").1.findings.first { $0.check == "data-sample" }
    #expect(bytes?.evidence.contains("1 of 24 objects") == true)
    let none = DataSample(.percent(0.001)).chosen([])
    #expect(none.isEmpty)
  }

  @Test("What is encrypted is compared with its digest without an identity, and opened with one")
  func encrypted() async throws {
    let place = try await VerifiedPlace.healthy()
    let identity = AgeIdentity.generate()
    let encoding = Encoding(recipients: [try #require(identity.recipient)])
    place.clock.withLock { $0 = VerifiedPlace.now.addingTimeInterval(-60) }
    let store = try ChangeLogStore(tier: place.tiers[0], component: place.database, systemIdentifier: "7301")
    _ = try await store.put("000000010000000000000006", TestData.rows(5_000), encoding: encoding)
    struct Source: BackupSource {
      var component: Component
      func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
        try await writer.write("data", ByteStream(TestData.rows(40_000)), expectedLength: nil)
        return Capture(
          recoveryPoint: RecoveryPoint(time: VerifiedPlace.now.addingTimeInterval(-60), position: "1"), method: .dump)
      }
    }
    let manifest = try await place.repository(0).backUp(
      Source(component: try Component(.redis, "secret")), cadence: .daily, encoding: encoding,
      logger: VerifiedPlace.logger)
    func report(_ identities: [AgeIdentity]) async -> VerificationReport {
      await DailyVerification(
        place.repository(0), decoding: Decoding(identities: identities), now: { VerifiedPlace.now }
      ).report(logger: VerifiedPlace.logger)
    }
    func severities(_ report: VerificationReport, _ check: String) -> [Finding.Severity] {
      report.findings.filter { $0.check == check && $0.subject.contains(manifest.artifacts[0].key.rawValue) }
        .map(\.severity)
    }
    let closed = await report([])
    #expect(severities(closed, "artifact-digest") == [.passed])
    #expect(severities(closed, "artifact-codec") == [.notChecked])
    #expect(closed.findings.contains { $0.check == "segment-digest" && $0.severity == .notChecked })
    let open = await report([identity])
    #expect(severities(open, "artifact-digest") == [.passed] && severities(open, "artifact-codec") == [.passed])
    #expect(!open.findings.contains { $0.check == "segment-digest" && $0.severity == .notChecked })
    try await place.change(manifest.artifacts[0].key, on: 0) { $0[$0.count - 5] ^= 1 }
    #expect(severities(await report([]), "artifact-digest") == [.failure])
  }

  @Test("A component that was asked for and has no backup fails")
  func component() async throws {
    let place = try await VerifiedPlace.healthy()
    let report = await DailyVerification(
      place.repository(0), component: try Component(.redis, "cache"), now: { VerifiedPlace.now }
    ).report(logger: VerifiedPlace.logger)
    #expect(report.verdict == .failed)
    #expect(
      report.findings.contains {
        $0.check == "backup-present" && $0.subject == "redis/cache" && $0.severity == .failure
      })
  }

  @Test("The schema is judged as Python's validator judges it")
  func schema() async throws {
    let place = try await VerifiedPlace.healthy()
    let newest = try await place.newest(place.database)
    let sound = try newest.json()
    let text = String(decoding: sound, as: UTF8.self)
    let damaged = [
      ("\"daily\"", "\"yearly\""), ("\"compression\" : \"zstd\"", "\"compression\" : \"lz4\""),
      ("\"rawSize\" : ", "\"rawSize\" : -"),
      ("\"leftOut\"", "\"left\""), ("postgres/app", "postgres/App"), (".000000Z", "Z"),
      ("\"artifacts\" : [", "\"artifacts\" : [7, "),
      ("\"recipients\" : [\n\n", "\"recipients\" : [\"x\"\n"), ("\"name\" : \"data\"", "\"name\" : 5"),
      ("\"key\" : \"postgres", "\"key\" : \"/postgres"),
    ].map { Data(text.replacing($0.0, with: $0.1).utf8) }
    #expect(damaged.allSatisfy { $0 != sound })
    let schema = try JSONSchema(BackupManifest.jsonSchema)
    let judged = try await SchemaJudge.verdicts(on: [sound] + damaged)
    for (document, verdict) in zip([sound] + damaged, judged) {
      let violations = try schema.violations(of: document)
      #expect(violations.isEmpty == (verdict == nil), "\(violations) \(verdict ?? "follows")")
    }
    #expect(judged.count { $0 != nil } == damaged.count, "\(judged)")
    let other = try JSONSchema(Data(#"{"oneOf": []}"#.utf8))
    #expect(throws: DRError.self) { try other.violations(of: Data("{}".utf8)) }
  }
}
