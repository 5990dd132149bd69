import DRCore
import DRTestSupport
import DRVerify
import Foundation
import Testing

/// What a report comes to, and what other programs read of it.
@Suite struct ReportTests {
  private static let findings = [
    Finding("artifact-digest", .passed, subject: "a", evidence: "whole"),
    Finding(
      "backup-age", .failure, subject: "postgres/app", evidence: "30 h <old> & \"late\"\nsecond line", advice: "see why"
    ),
    Finding("log-complete", .notChecked, subject: "config/tree", evidence: "there is no change log of it"),
    Finding("tier-reachable", .couldNotVerify, subject: "s3:b\u{1}cket", evidence: "no answer"),
    Finding("backup-size", .warning, subject: "w", evidence: "odd]]>"),
    Finding("data-sample", .notice, subject: "n", evidence: "5 %"),
  ]

  private static func report(_ findings: [Finding], obstacle: String? = nil) -> VerificationReport {
    VerificationReport(subject: "nightly <1>", findings: findings, obstacle: obstacle, duration: .milliseconds(1234))
  }

  @Test("What could not be looked at, or did not run, never passes")
  func verdicts() {
    let (passed, failed, notChecked, obstructed) = (
      Self.findings[0], Self.findings[1], Self.findings[2], Self.findings[3]
    )
    let expected: [([Finding], Verdict, Int32)] = [
      ([], .couldNotVerify, 2), ([notChecked], .couldNotVerify, 2), ([passed], .passed, 0),
      ([passed, notChecked], .passed, 0), ([passed, obstructed], .couldNotVerify, 2),
      ([passed, obstructed, failed], .failed, 1), ([Self.findings[4]], .couldNotVerify, 2),
    ]
    for (findings, verdict, code) in expected {
      let report = Self.report(findings)
      #expect(report.verdict == verdict && report.verdict.exitCode == code, "\(report.sentence)")
    }
    #expect(Self.report([passed], obstacle: "cut off").verdict == .couldNotVerify)
    #expect(Self.report([passed, notChecked]).sentence == "passed: 1 passed, 1 not checked")
    #expect(Self.report([]).sentence == "could not verify: no check ran")
  }

  @Test("A suppression needs a reason, covers one check, takes out failures alone, and is printed")
  func suppression() throws {
    let late = try Suppression(parsing: "check=backup-age,subject=postgres/*,reason=the server moves, until Monday")
    #expect(late.reason == "the server moves, until Monday")
    let report = Self.report(Self.findings).suppressing([late])
    #expect(report.suppressed.map(\.reason) == ["the server moves, until Monday"])
    // Something could not be looked at still.
    #expect(report.verdict == .couldNotVerify && report.sentence.contains("1 suppressed"))
    let other = try Suppression(check: "backup-age", subject: "redis/*", reason: "not of this one at all")
    #expect(Self.report(Self.findings).suppressing([other]).verdict == .failed)
    #expect(Self.report(Self.findings).suppressing([other]).findings.contains { $0.check == "suppression" })
    // It cannot make pass what did not run.
    let blind = try Suppression(check: "tier-reachable", reason: "it is never there at night")
    #expect(Self.report([Self.findings[0], Self.findings[3]]).suppressing([blind]).verdict == .couldNotVerify)
    for bad in [
      "check=backup-age", "check=backup-age,reason=short", "reason=a reason long enough",
      "check=*,reason=all of it, always",
      "check=a,check=b,reason=a reason long enough", "rule=a,reason=a reason long enough", "backup-age",
      "check=backup-age,reason=         .         ",
    ] {
      #expect(throws: DRError.self, "\(bad)") { try Suppression(parsing: bad) }
    }
  }

  @Test("Settings that are mistyped are errors, and survive being written and read")
  func settings() throws {
    let text = """
      {"level": "sample", "sample": "2/7", "maxAgeHours": 12, "sizeTolerance": 5, "minimumHistory": 4, "maxLagHours": 1, "allBackups": true,
       "suppressions": [{"check": "backup-size", "subject": "*", "reason": "rows were purged"}]}
      """
    let settings = try JSONDecoder().decode(VerificationSettings.self, from: Data(text.utf8))
    #expect(settings.level == .sample(DataSample(.part(2, of: 7))) && settings.maximumAge == .seconds(12 * 3600))
    let again = try JSONDecoder().decode(VerificationSettings.self, from: JSONEncoder().encode(settings))
    #expect(again == settings)
    for bad in [
      #"{"maxAge": 24}"#, #"{"level": "all"}"#, #"{"level": "data", "sample": "5%"}"#, #"{"level": "sample"}"#,
      #"{"sample": "8/7"}"#,
      #"{"sample": "0%"}"#, #"{"sample": "101%"}"#, #"{"sample": "5 apples"}"#, #"{"sizeTolerance": 100}"#,
      #"{"maxAgeHours": 0}"#,
      #"{"minimumHistory": 0}"#, #"{"suppressions": [{"check": "a"}]}"#,
      #"{"suppressions": [{"check": "a", "because": "a reason long enough", "reason": "a reason long enough"}]}"#,
    ] {
      let data = Data(bad.utf8)
      #expect(throws: DecodingError.self, "\(bad)") { try JSONDecoder().decode(VerificationSettings.self, from: data) }
    }
  }

  @Test("JUnit's XML is read by a real parser: failures, errors and skips with their reasons, whatever a name holds")
  func junit() async throws {
    let late = try Suppression(check: "backup-age", reason: "the server moves, until Monday")
    let xml = JUnitReport([
      Self.report(Self.findings), Self.report(Self.findings).suppressing([late]),
      Self.report([], obstacle: "no & \"key\""),
    ]).xml
    let script = """
      import sys, json, xml.etree.ElementTree as e
      root = e.fromstring(sys.stdin.buffer.read())
      out = []
      for suite in root:
          cases = suite.findall('testcase')
          n = lambda t: sum(c.find(t) is not None for c in cases)
          assert [int(suite.get(k)) for k in ('tests', 'failures', 'errors', 'skipped')] == [len(cases), n('failure'), n('error'), n('skipped')]
          out.append([[c.get('classname'), c.get('name'), c[0].tag, c[0].get('message')] for c in cases])
      assert int(root.get('tests')) == sum(int(s.get('tests')) for s in root)
      json.dump([[s.get('name'), s.get('time')] for s in root] + out, sys.stdout)
      """
    let result = try await runCommand("python3", ["-c", script], input: Array(xml.utf8))
    try #require(result.status == 0, "\(result.error)\n\(xml)")
    let read = try JSONDecoder().decode([JSONValue].self, from: Data(result.output))
    #expect(read[0] == ["nightly <1>", "1.234"])
    let cases = (read[3].array ?? []).compactMap { $0.array?.map { $0.string ?? "" } }
    #expect(cases.map { $0[2] } == ["system-out", "failure", "skipped", "error", "system-out", "system-out"])
    #expect(cases[1] == ["backup-age", "postgres/app", "failure", "30 h <old> & \"late\"\nsecond line"])
    #expect(cases[2][3] == "not checked, because there is no change log of it")
    #expect(cases[3][1] == "s3:b\u{FFFD}cket")
    let suppressed = (read[4].array ?? []).compactMap { $0.array?.map { $0.string ?? "" } }
    #expect(suppressed.last?[2...] == ["skipped", "suppressed: the server moves, until Monday"])
    #expect(read[5] == .array([.array(["verification", "nightly <1>", "error", "no & \"key\""])]))
  }

  @Test("The JSON says all that the text says")
  func json() throws {
    let report = Self.report(Self.findings)
    let value = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(report))
    #expect(value.object?["verdict"] == "failed" && value.object?["exitCode"] == 1)
    #expect(value.object?["findings"]?.array?.count == 6 && value.object?["sentence"]?.string == report.sentence)
  }
}
