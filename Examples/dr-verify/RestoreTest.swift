import ArgumentParser
import DRCore
import DRPlan
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging
import NIOCore
import PlatformSupport

/// The weekly restore test.
struct RestoreTest: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restore-test",
    abstract: "Restores backups into sandboxes of real servers, looks at what came back, and removes it.",
    discussion: """
      Each configuration is that of the program which backs the component up. Nothing outside the sandboxes is touched: they listen on a \
      socket or on loopback alone, archive nothing, follow nobody, and are asked whether it is so. The plan's checklist comes out as \
      fifteen findings, each checked or not checked, because. Exit code 1 also if the restore took longer than it may.
      """)

  @Option(name: .customLong("config"), help: "A component's configuration file; give it once for each component.")
  var configs: [String]

  @Option(help: "Restore to this moment: '2026-11-23 12:00:00+00'; the latest unless said.")
  var targetTime: String?

  @Option(help: "What was recorded by: dr-verify baseline.", completion: .file(extensions: ["json"]))
  var baseline: String?

  @Option(parsing: .unconditional, help: "By how many percent the rows of a table may differ from the baseline.")
  var rowTolerance = 1.0

  @Option(parsing: .unconditional, help: "By how many percent a query may be slower than in the baseline.")
  var slower = 100.0

  @Option(
    parsing: .unconditional, help: "Minutes that the restore of each component may take to its first right answer.")
  var rtoMinutes = 30.0

  @Option(
    help: "A question whose answer was planted before the backup: DATABASE=SQL. It gives one row with one column.")
  var canary: String?

  @Option(help: "A file with the canary's answer, compared to the byte and never shown.", completion: .file())
  var canaryFile: String?

  @Option(
    help: "A shell command of the application, run against the restored database (PGHOST, PGPORT, PGUSER, PGDATABASE).")
  var application: String?

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  @OptionGroup var reporting: ReportArguments
  @OptionGroup var kept: HistoryArguments

  func validate() throws {
    try allow("--row-tolerance", rowTolerance, 0...99.9)
    try allow("--slower", slower, 0...100_000)
    try allow("--rto-minutes", rtoMinutes, 0.0001...100_000)
    guard (canary == nil) == (canaryFile == nil) else {
      throw ValidationError("--canary and --canary-file belong together")
    }
    guard canary?.contains("=") ?? true else { throw ValidationError("--canary is DATABASE=SQL") }
    _ = try usage { try RecoveryTarget(immediate: false, time: targetTime, position: nil) }
  }

  func run() async throws {
    try await ExampleSupport.reporting {
      let (options, keeper, began) = (try options(), try kept.keeper(), Date())
      let (report, tested) = try await endingInGoodOrder(saying: "the sandboxes were removed") { await test(options) }
      try await reporting.give(report, keptBy: keeper) {
        try RunReport(
          of: report, tested, as: plan(of: tested), by: .current(program: "dr-verify"), from: began, to: Date())
      }
    }
  }

  private func options() throws -> RestoreTestOptions {
    var options = RestoreTestOptions(
      target: try RecoveryTarget(immediate: false, time: targetTime, position: nil),
      baseline: try baseline.map { try RecordedBaseline(file: $0) } ?? RecordedBaseline(), rowTolerance: rowTolerance,
      slower: slower, limit: .seconds(rtoMinutes * 60), application: application,
      logger: ProgramLog.make("dr-verify", verbose: verbose))
    if let canary, let canaryFile, let equal = canary.firstIndex(of: "=") {
      options.canary = RestoreTestOptions.Canary(
        database: String(canary[..<equal]), sql: String(canary[canary.index(after: equal)...]),
        answer: String(decoding: try SecretFile.read(canaryFile, "the file of the canary's answer"), as: UTF8.self))
    }
    return options
  }

  /// Another target, or other components, are another test; when it is to be is not.
  private func plan(of tested: [RunReport.RestoreTested]) -> RunReport.Plan {
    let words = [
      tested.map { "\($0.component)" }.joined(separator: ","), "\(rtoMinutes)", "\(rowTolerance)", "\(slower)",
      "\(canary != nil)", application ?? "",
    ]
    return RunReport.Plan(
      "restore test", digest: StreamDigest.hex(ByteBuffer(string: words.joined(separator: "\u{0}"))))
  }

  /// What cannot be restored is said of its component, and hides nothing of the others.
  private func test(_ options: RestoreTestOptions) async -> (VerificationReport, [RunReport.RestoreTested]) {
    let start = ContinuousClock.now
    var seen: [(component: Component, findings: [Finding])] = []
    var tested: [RunReport.RestoreTested] = []
    var unread: [Finding] = []
    for config in configs {
      do {
        let settings = try RepositoryConfiguration(file: config)
        var options = options
        options.recovered = MutableBox(nil)
        let began = Date()
        let findings = await RestoreTest.audited(settings, options)
        seen.append((settings.component, findings))
        tested.append(
          RunReport.RestoreTested(
            settings.component, from: began, to: Date(), recovered: options.recovered.value.map { Span($0) },
            of: Span(options.limit), findings: findings))
      } catch {
        unread.append(Finding("configuration", .couldNotVerify, subject: config, evidence: "\(error)"))
      }
    }
    let findings = seen.flatMap { component, findings in
      findings.map { finding in
        var named = finding
        named.subject = "\(component): \(finding.subject)"
        return named
      }
    }
    let report = VerificationReport(
      subject: "restore test of \(seen.map { "\($0.component)" }.joined(separator: ", "))",
      findings: unread + findings + RestoreChecklist.findings(seen), duration: start.duration(to: .now))
    return (report, tested)
  }
}
