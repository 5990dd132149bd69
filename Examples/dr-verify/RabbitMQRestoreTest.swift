import DRCore
import DRRabbitMQ
import DRStorage
import DRVerify
import ExampleSupport
import Foundation

/// Restores RabbitMQ into a sandbox, and looks at it.
struct RabbitMQRestoreTest {
  private let settings: RepositoryConfiguration
  private let options: RestoreTestOptions

  init(_ settings: RepositoryConfiguration, _ options: RestoreTestOptions) {
    self.settings = settings
    self.options = options
  }

  func run() async throws -> [Finding] {
    try await restored { broker, probes, findings in findings + (try await probes.verify(logger: options.logger)) }
  }

  /// Gives the body the restored broker with the probes that it must satisfy, and removes it whatever happens.
  func restored(
    _ body: @Sendable (RabbitMQSandbox, RabbitMQProbes, [Finding]) async throws -> [Finding]
  ) async throws -> [Finding] {
    let (logger, target, component) = (options.logger, options.target, settings.component)
    var phases = RestorePhases(limit: options.limit)
    let source = try await settings.restoreSource()
    let moment = if case .time(let date) = target { date } else { Date.distantFuture }
    let manifest = try await phases.measure("find the backup") {
      try await source.backup { repository in
        let catalog = try await repository.catalog(of: component)
        guard
          let found = catalog.backups.last(where: {
            $0.properties["queues"] != nil && $0.recoveryPoint.time <= moment
          })
        else {
          throw DRError(
            .targetUnreachable, "there is no backup of \(component) with messages", advice: "dr-rabbitmq list",
            component: component)
        }
        return found
      }
    }
    let reader = try await source.reader(for: manifest, logger: logger)
    let isTapped = !(try await source.repository.logObjects(of: component)).isEmpty
    let sandbox = try await phases.measure("start an empty broker") { try await RabbitMQSandbox.create(logger: logger) }
    let decoding = try settings.decoding()
    let folder: String
    var findings: [Finding]
    do {
      var definitions = RabbitMQDefinitionsRestorer(broker: sandbox.settings)
      definitions.isHarmless = true
      let restored = try await phases.measure("definitions: import, export again, compare") {
        try await definitions.run(from: reader, logger: logger)
      }
      var messages = RabbitMQMessageRestorer(broker: sandbox.settings)
      if isTapped {
        messages.tap = try RabbitMQTapLog(
          tier: source.repository.tier, component: component, cluster: manifest.systemIdentifier ?? "",
          decoding: decoding)
      }
      let depths = MutableBox<[String: Int64]>([:])
      messages.onQueue = { queue in
        depths.withLock { $0["\(queue.vhost)/\(queue.queue)"] = queue.published + queue.resumedFrom }
      }
      let restorer = messages
      let outcome = try await phases.measure("messages: read, decrypt, publish, confirm") {
        try await restorer.restore(from: reader, to: target, logger: logger)
      }
      var probes = RabbitMQProbes(
        sandbox.settings, manifest: manifest,
        probes: [.connectivity, .alarms, .cluster, .queues, .depths, .quorum, .deadLetters, .roundTrip])
      // What a tap captured since the backup is there too.
      if isTapped { probes.depths = depths.value }
      let ready = probes
      let answer = try await phases.measure("first right answer") {
        var first = ready
        first.probes = [.connectivity]
        return try await first.verify(logger: logger)
      }
      let seen =
        [
          Finding(
            "restore", .passed, subject: manifest.id,
            evidence: "\(outcome.items) messages were published again and confirmed"
              + (isTapped ? ", those that a tap captured among them" : ""))
        ] + answer + options.findings(of: phases) + restored.findings
      findings = try await body(sandbox, ready, seen)
      folder = sandbox.folder
    } catch {
      await Task { try? await sandbox.remove() }.value
      throw error
    }
    try await Task { try await sandbox.remove() }.value
    let isLeft = FileManager.default.fileExists(atPath: folder)
    findings.append(
      Finding(
        "sandbox-removed", isLeft ? .failure : .passed, subject: "sandbox",
        evidence: isLeft ? "\(folder) is still there" : "the broker was ended, and its folder is gone"))
    return findings
  }
}
