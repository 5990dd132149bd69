import DRCore
import DRPlan
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import NIOCore
import Testing

/// Reports that are kept: one chain, whoever writes it, and what follows from it.
struct ReportHistoryTests {
  private func makeKey() async throws -> ReportSigningKey {
    let made = try await runCommand("openssl", ["genpkey", "-algorithm", "ed25519"])
    try #require(made.status == 0)
    return try ReportSigningKey(pem: String(decoding: made.output, as: UTF8.self))
  }

  @Test("Reports that are added at the same time are one chain, signed, and in a repository nothing else minds them")
  func chain() async throws {
    try await withTemporaryFolder { folder in
      let tier = try await LocalTier(root: "\(folder)/repository", creating: true)
      let key = try await makeKey()
      let history = ReportHistory(on: tier)
      let report = try SampleReport().make()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<8 { group.addTask { try await history.append(report, signedBy: key) } }
        try await group.waitForAll()
      }
      let entries = try await history.entries()
      let whole = entries.filter { $0.isSigned && $0.report != nil }
      #expect(whole.map(\.number) == Array(1...8) && entries.count == 8)
      let findings = ReportCheck(key: key.verifying).findings(try ReportFiles.read("\(folder)/repository/reports"))
      #expect(SampleReport.failures(findings).isEmpty, "\(findings)")
      let catalog = try await Repository(tier: tier).catalog()
      #expect(catalog.backups.isEmpty && catalog.unreadable.isEmpty)
      // One that was taken out is seen, also by who adds the next.
      try await tier.delete(ObjectKey("reports/00000004.json"))
      try await history.append(report, signedBy: key)
      let rest = ReportCheck(key: key.verifying).findings(try ReportFiles.read("\(folder)/repository/reports"))
      #expect(SampleReport.failures(rest) == ["report-chain 00000005"], "\(rest)")
    }
  }

  @Test("A crash at each write leaves a chain, and what is not signed is said and can be signed")
  func crashes() async throws {
    let key = try await makeKey()
    let report = try SampleReport().make()
    for writes in 0..<4 {
      let memory = InMemoryTier()
      let history = ReportHistory(on: memory)
      try await history.append(report, signedBy: key)
      let left = MutableBox(writes)
      let dying = FaultyTier(memory) {
        left.withLock { left in
          left -= 1
          return left < 0
        }
      }
      await #expect(throws: DRError.self) { try await ReportHistory(on: dying).append(report, signedBy: key) }
      var entries = try await history.entries()
      #expect(entries.map(\.isSigned) == (writes == 0 ? [true] : [true, false]), "after \(writes) writes")
      try await history.append(report, signedBy: key)
      entries = try await history.entries()
      if writes > 0 {
        let broken = SampleReport.failures(ReportCheck(key: key.verifying).findings(try await all(history, 3)))
        #expect(broken == ["report-signature 00000002"])
        try await history.sign(2, with: key)
        await #expect(throws: DRError.self) { try await history.sign(2, with: key) }
      }
      let findings = ReportCheck(key: key.verifying).findings(try await all(history, entries.count))
      #expect(SampleReport.failures(findings).isEmpty, "\(findings)")
    }
  }

  private func all(_ history: ReportHistory, _ count: Int) async throws -> [ReportFiles] {
    var files: [ReportFiles] = []
    for number in 1...count { files.append(try await history.files(number)) }
    return files
  }

  @Test("Never drilled, failing, void after a change of the plan, stale, verified")
  func standing() throws {
    let plan = RunReport.Plan("platform", digest: "now")
    let now = SampleReport.at(40 * 86_400)
    func run(_ day: Double, _ digest: String = "now", passes: Bool = true, kind: RunReport.Kind = .drill) throws
      -> RunReport
    {
      try SampleReport.changed { sample in
        sample.kind = kind
        sample.plan = .init("platform", digest: digest)
        sample.started = SampleReport.at(day * 86_400 - 10)
        sample.ended = SampleReport.at(day * 86_400)
        if !passes { sample.rto.actual = .hours(9) }
      }
    }
    func standing(_ reports: [RunReport]) -> PlanStanding {
      PlanStanding.of(plan, in: reports.reversed(), for: .days(35), now: now)
    }
    #expect(standing([]) == .neverDrilled)
    #expect(standing([try run(39, kind: .verification)]) == .neverDrilled)
    let another = try SampleReport.changed { $0.plan = .init("another", digest: "now") }
    #expect(standing([another]) == .neverDrilled)
    #expect(standing([try run(39)]) == .verified(SampleReport.at(39 * 86_400)))
    #expect(standing([try run(5)]) == .verified(SampleReport.at(5 * 86_400)))
    #expect(standing([try run(4.9)]) == .stale(passed: SampleReport.at(4.9 * 86_400)))
    #expect(standing([try run(39, "before")]) == .void(passed: SampleReport.at(39 * 86_400)))
    #expect(standing([try run(38), try run(39, "before")]) == .void(passed: SampleReport.at(39 * 86_400)))
    #expect(
      standing([try run(20, passes: false), try run(30), try run(35, passes: false), try run(39, passes: false)])
        == .failing(since: SampleReport.at(35 * 86_400)))
    #expect(standing([try run(38, passes: false), try run(39)]).isVerified)
    // What nothing proved is not verified, though nothing failed.
    let bare = try SampleReport.changed { sample in
      sample.kind = .recovery
      sample.plan = .init("platform", digest: "now")
      (sample.started, sample.ended) = (SampleReport.at(38 * 86_400), SampleReport.at(39 * 86_400))
      sample.phases[.verification] = nil
    }
    #expect(bare.verdict == .couldNotVerify && standing([bare]) == .unproven(SampleReport.at(39 * 86_400)))
  }

  @Test("The document's key figures come from what was recorded, and what was not recorded is no data")
  func figures() throws {
    let now = SampleReport.at(31 * 86_400)
    func state(_ figures: KeyFigures, _ id: String) -> KeyFigure? { figures.all.first { $0.id == id } }
    let empty = KeyFigures(now: now)
    let unknown = empty.all.filter { $0.state == .noData && $0.value == nil }
    #expect(unknown.count == 15 && empty.all.count == 15)

    func drill(_ day: Double, passes: Bool = true, detected: Double = 42) throws -> RunReport {
      try SampleReport.changed { sample in
        sample.started = SampleReport.at(day * 86_400 - 10)
        sample.ended = SampleReport.at(day * 86_400)
        sample.phases[.detection] = .init(.detection, from: SampleReport.at(0), to: SampleReport.at(detected))
        if !passes { sample.rto.actual = .hours(9) }
      }
    }
    func backup(_ day: Double, minutes: Double, size: Int64) throws -> BackupManifest {
      let end = SampleReport.at(day * 86_400)
      let point = RecoveryPoint(time: end, position: "0/1")
      let artifact = BackupManifest.Artifact(
        name: "base.tar", key: try ObjectKey("postgres/daily/x/base.tar"), rawSize: size, rawSHA256: "",
        storedSize: size,
        storedSHA256: "", compression: .none, recipients: [])
      return BackupManifest(
        id: BackupIDs.make(day), component: SampleReport.database, cadence: .daily,
        started: end.addingTimeInterval(-60 * minutes), ended: end,
        capture: Capture(recoveryPoint: point, method: .basebackup),
        artifacts: [artifact])
    }
    func line(_ outcome: String) throws -> AuditRecord {
      let text = """
        {"by": {"host": "h", "name": "n", "program": "p", "version": "1"}, "operation": "backup", "outcome": "\(outcome)", "previous": [],
         "sequence": 1, "when": "\(Timestamp.format(SampleReport.at(20 * 86_400)))", "writer": "w"}
        """
      return try JSONDecoder().decode(AuditRecord.self, from: Data(text.utf8))
    }
    var figures = KeyFigures(
      reports: [try drill(10), try drill(20)],
      backups: [try backup(20, minutes: 10, size: 1000), try backup(21, minutes: 59, size: 1050)],
      operations: [try line("begun"), try line("done")], copies: .init(4, of: 4), retained: .init(9, of: 9), now: now)
    let met = [
      "backup-completion-time", "backup-success-rate", "backup-size-growth", "upload-success", "retention-compliance",
      "recovery-time", "recovery-point", "data-validation-success", "time-to-detect", "drill-recovery-time",
      "procedures-accuracy",
    ]
    for id in met { #expect(state(figures, id)?.state == .met, "\(id): \(String(describing: state(figures, id)))") }
    for id in ["restore-test-success", "team-readiness", "issue-resolution-time", "documentation-updates"] {
      #expect(state(figures, id)?.state == .noData, "\(id)")
    }
    #expect(state(figures, "backup-size-growth")?.value == "+5.0 %")

    figures.backups.append(try backup(22, minutes: 61, size: 500))
    figures.operations.append(try line("begun"))
    figures.copies = .init(3999, of: 4000)
    figures.retained = .init(0, of: 1)
    figures.reports += [try drill(25, passes: false, detected: 301)]
    for id in met {
      #expect(
        state(figures, id)?.state == (id == "recovery-point" || id == "procedures-accuracy" ? .met : .missed), "\(id)")
    }
    #expect(state(figures, "upload-success")?.value == "99.9 %")
    #expect(state(figures, "backup-success-rate")?.value == "50.0 %")
    let open = state(figures, "issue-resolution-time")
    #expect(open?.state == .missed && open?.value == "6d, still open")
    figures.reports.append(try drill(25.5))
    #expect(state(figures, "issue-resolution-time")?.state == .met)
    // What lies outside of the period is not of it.
    figures.now = SampleReport.at(300 * 86_400)
    #expect(state(figures, "recovery-time")?.state == .noData && state(figures, "time-to-detect")?.state == .noData)
  }
}

private enum BackupIDs {
  static func make(_ day: Double) -> String { "backup_2026110\(Int(day) % 10)_020000" }
}

/// A tier that stops at a put.
private struct FaultyTier: StorageTier {
  let inner: any StorageTier
  let fails: @Sendable () -> Bool

  init(_ inner: any StorageTier, _ fails: @escaping @Sendable () -> Bool) {
    self.inner = inner
    self.fails = fails
  }

  var name: String { inner.name }
  var capabilities: TierCapabilities { inner.capabilities }

  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    if fails() { throw DRError(.tierUnavailable, "it is gone") }
    return try await inner.put(key, body, options)
  }

  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream { try await inner.get(key, range: range) }
  func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await inner.head(key) }
  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await inner.list(prefix: prefix, after: after, limit: limit)
  }
  func delete(_ key: ObjectKey) async throws { try await inner.delete(key) }
  func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await inner.removeAbandonedUploads(olderThan: date)
  }
}
