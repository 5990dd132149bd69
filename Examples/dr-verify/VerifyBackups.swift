import ArgumentParser
import DRCore
import DRPlan
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import NIOCore
import PlatformSupport

/// The daily verification.
struct VerifyBackups: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backups",
    abstract: "The daily look at a repository and its copies: is everything there, whole, young and complete?",
    discussion: """
      Presence and sizes, ages, manifests and their schema, digests, compression and encryption, chains and change logs, on each tier. \
      Nothing is written. What could not be looked at, or was not, is said with the reason, and does not pass.
      """)

  @OptionGroup var places: PlaceArguments
  @OptionGroup var reporting: ReportArguments
  @OptionGroup var kept: HistoryArguments

  @Option(help: "Only this component: postgres/app. It must have a backup.")
  var component: String?

  @Option(help: "metadata: presence, sizes, manifests, first bytes. sample: a part to the last byte. data: all of it.")
  var level: String?

  @Option(help: "Read a part of the objects: 2/7 (the second of seven parts), 5%, 500MB.")
  var sample: String?

  @Option(parsing: .unconditional, help: "What chooses the sample: the same seed reads the same objects.")
  var seed: UInt64?

  @Flag(help: "Read the content of all backups, not only of the newest of each component, method and cadence.")
  var allBackups = false

  @Option(parsing: .unconditional, help: "How old the newest backup of each component may be (24).")
  var maxAgeHours: Double?

  @Option(
    parsing: .unconditional, help: "By how many percent a size may differ from the median of those before it (10).")
  var sizeTolerance: Double?

  @Option(parsing: .unconditional, help: "For how many hours a copy may lack what the repository has (2).")
  var maxLagHours: Double?

  @Option(help: "What is known to be wrong: check=NAME,subject=PATTERN,reason=TEXT. The report prints the reason.")
  var suppress: [String] = []

  @Option(
    help: "These settings from a JSON file (level, sample, seed, maxAgeHours, …, suppressions); options win over it.",
    completion: .file(extensions: ["json"]))
  var settings: String?

  func validate() throws {
    try allow("--max-age-hours", maxAgeHours, 0.001...876_000)
    try allow("--size-tolerance", sizeTolerance, 0...99.9)
    try allow("--max-lag-hours", maxLagHours, 0...87_600)
    guard seed == nil || sample != nil else { throw ValidationError("--seed is for a --sample") }
    _ = try usage { try suppress.map { try Suppression(parsing: $0) } }
    _ = try usage { try component.map { try Component(parsing: $0) } }
    if level != nil || sample != nil { _ = try usage { try VerificationLevel(level, sample: sample, seed: seed ?? 0) } }
  }

  func run() async throws {
    try await ExampleSupport.reporting {
      let (keeper, began) = (try kept.keeper(), Date())
      let (report, plan) = try await report()
      try await reporting.give(report, keptBy: keeper) {
        try RunReport(of: report, as: plan, by: .current(program: "dr-verify"), from: began, to: Date())
      }
    }
  }

  private func report() async throws -> (VerificationReport, RunReport.Plan) {
    let settings = try chosenSettings()
    let repository = try await places.open(places.repository)
    try TierPlace.refuseSame([places.repository] + places.copies)
    var copies: [Repository] = []
    var closed: [Finding] = []
    for place in places.copies {
      do {
        copies.append(try await places.open(place))
      } catch let error as DRError {
        closed.append(
          Finding("tier-reachable", .couldNotVerify, subject: place, evidence: error.message, advice: error.advice))
      }
    }
    let verification = DailyVerification(
      repository, copies: copies, component: try component.map { try Component(parsing: $0) }, settings: settings,
      decoding: try places.decoding())
    var report = await verification.report(logger: places.logger)
    report.findings = closed + report.findings
    return (report, try plan(settings))
  }

  /// Other settings, or other places, are another verification.
  private func plan(_ settings: VerificationSettings) throws -> RunReport.Plan {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let places = ([self.places.repository] + self.places.copies + [component ?? ""]).joined(separator: "\u{0}")
    let words = ByteBuffer(bytes: try encoder.encode(settings) + Data(places.utf8))
    return RunReport.Plan("verification of backups", digest: StreamDigest.hex(words))
  }

  private func chosenSettings() throws -> VerificationSettings {
    var chosen = VerificationSettings()
    if let settings {
      do {
        chosen = try JSONDecoder().decode(
          VerificationSettings.self, from: Data(contentsOf: URL(fileURLWithPath: settings)))
      } catch let error as DecodingError {
        throw DRError(.invalidConfiguration, "the settings are not right: \(error.reason)", object: settings)
      } catch {
        throw DRError(.invalidConfiguration, "the settings cannot be read", object: settings, cause: error)
      }
    }
    if level != nil || sample != nil { chosen.level = try VerificationLevel(level, sample: sample, seed: seed ?? 0) }
    chosen.allBackups = chosen.allBackups || allBackups
    if let maxAgeHours { chosen.maximumAge = .seconds(maxAgeHours * 3600) }
    if let sizeTolerance { chosen.sizeTolerance = sizeTolerance }
    if let maxLagHours { chosen.lag = .seconds(maxLagHours * 3600) }
    chosen.suppressions += try suppress.map { try Suppression(parsing: $0) }
    return chosen
  }
}
