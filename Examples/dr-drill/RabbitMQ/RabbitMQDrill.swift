import DRCore
import DRRabbitMQ
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// RabbitMQ in the drill: definitions of every kind, queues of every type, a tap beside them.
actor RabbitMQDrill: DrillSystem {
  nonisolated let component: Component
  private var broker: RabbitMQSandbox?
  private var restored: RabbitMQSandbox?
  private var ledger: RabbitMQLedger?
  private var tapping: Task<Void, any Error>?
  private var known: [PublishedMessage] = []
  /// Through which moment the tap has everything, and what ended it if something did.
  private let tapped = MutableBox<(durable: Date, failure: (any Error)?)>((.distantPast, nil))

  init() throws { component = try Component(.rabbitmq, "drill") }

  // MARK: Before the disaster

  func start(_ run: DrillRun) async throws {
    run.say("starting a RabbitMQ broker of the drill's own")
    let broker = try await run.measure(self, "start a broker") {
      try await RabbitMQSandbox.create(logger: run.logger)
    }
    self.broker = broker
    try await define(ManagementAPI(broker.settings), broker.settings.user)
    var options = RabbitMQTap.Options(name: "drill")
    options.segmentInterval = .seconds(run.command.partialInterval / 2)
    let tap = try RabbitMQTap(
      component: component, broker: broker.settings,
      queues: RabbitMQQueueSelection(vhosts: [RabbitMQLedger.vhost]), tier: run.repository.tier, encoding: run.encoding,
      options: options, logger: run.logger)
    try await tap.prepare(logger: run.logger)
    let (logger, tapped) = (run.logger, tapped)
    tapping = Task {
      do {
        try await tap.follow(logger: logger) { point in tapped.withLock { $0.durable = point.time } }
      } catch {
        tapped.withLock { $0.failure = error }
        throw error
      }
    }
    run.say("publishing a ledger into \(RabbitMQLedger.kept.count + 1) queues of RabbitMQ, and consuming one of them")
    ledger = RabbitMQLedger(broker.settings, logger: run.logger)
  }

  private func define(_ api: ManagementAPI, _ user: String) async throws {
    let vhost = RabbitMQLedger.vhost
    try await api.put("vhosts/\(vhost)", ["description": "the drill's platform", "tags": "drill"])
    try await api.put("permissions/\(vhost)/\(user)", ["configure": ".*", "write": ".*", "read": ".*"])
    try await api.put("users/agent", ["password": "of the drill alone", "tags": "monitoring"])
    try await api.put("permissions/\(vhost)/agent", ["configure": "^agents", "write": ".*", "read": ".*"])
    try await api.put(
      "topic-permissions/\(vhost)/agent", ["exchange": RabbitMQLedger.exchange.asJSON, "write": "^t", "read": ".*"])
    try await api.put(
      "policies/\(vhost)/lazy",
      ["pattern": "^tasks$", "definition": ["queue-mode": "lazy"], "priority": 1, "apply-to": "queues"])
    try await api.put(
      "operator-policies/\(vhost)/cap",
      ["pattern": "^dead$", "definition": ["max-length": 100_000], "priority": 0, "apply-to": "queues"])
    try await api.put("vhost-limits/\(vhost)/max-queues", ["value": 100])
    try await api.put(
      "exchanges/\(vhost)/\(RabbitMQLedger.exchange)",
      ["type": "topic", "durable": true, "auto_delete": false, "internal": false, "arguments": [:]])
    for queue in RabbitMQLedger.queues {
      try await api.put(
        "queues/\(vhost)/\(queue.name)", ["durable": true, "auto_delete": false, "arguments": .object(queue.arguments)])
      try await api.post(
        "bindings/\(vhost)/e/\(RabbitMQLedger.exchange)/q/\(queue.name)",
        ["routing_key": .string(queue.name), "arguments": [:]])
    }
  }

  func backUp(_ run: DrillRun) async throws {
    guard let broker else { return }
    let source = source(broker)
    let manifest = try await run.measure(self, "dump definitions and messages, a tap beside it") {
      try await run.repository.backUp(source, cadence: .daily, encoding: run.encoding, logger: run.logger)
    }
    let records = RabbitMQQueueRecord.all(of: manifest)
    run.say(
      "\(manifest.id) of RabbitMQ: \(records.reduce(0) { $0 + $1.summary.messages }) messages of \(records.count) queues"
    )
    let whole = records.allSatisfy { $0.readyAfter >= $0.readyBefore || $0.consumers > 0 || $0.type == "stream" }
    run.check(self, "the dump left every queue as deep as before", whole && !records.isEmpty, "\(records.count) queues")
  }

  private func source(_ broker: RabbitMQSandbox) -> RabbitMQMessageSource {
    RabbitMQMessageSource(
      component: component, broker: broker.settings,
      queues: RabbitMQQueueSelection(
        vhosts: [RabbitMQLedger.vhost], patterns: RabbitMQLedger.queues.map(\.name)))
  }

  /// Also waits until the tap has everything: the drill tells what a disaster costs from the latest, and of the moment that
  /// it is possible.
  func betweenChanges(_ body: @escaping @Sendable () async throws -> Void) async throws {
    guard let ledger else { return try await body() }
    let tapped = tapped
    try await ledger.betweenChanges {
      let closed = Date()
      try await withTimeLimit(.seconds(120), "the tap of RabbitMQ to catch up") {
        while tapped.value.durable < closed {
          if let failure = tapped.value.failure { throw failure }
          try await Task.sleep(for: .milliseconds(10))
        }
      }
      try await body()
    }
  }

  func destroy(_ run: DrillRun) async throws {
    guard let broker, let ledger else { return }
    try await broker.kill()
    try await broker.wipe()
    await ledger.stop()
    known = ledger.known
    tapping?.cancel()
    do {
      try await tapping?.value
    } catch is CancellationError {}
    run.say("RabbitMQ had confirmed \(known.count) messages")
  }

  // MARK: After it

  func recover(to moment: Date, _ run: DrillRun) async throws {
    let restored = try await restore(to: .time(moment), counts: true, run)
    let target = Int64((moment.timeIntervalSince1970 * 1000).rounded(.down))
    let seen = try await run.measure(self, "first right answer: every queue read", counts: true) {
      try await read(restored, run)
    }
    run.answered(self)
    let wanted = known.filter { RabbitMQLedger.kept.contains($0.queue) && $0.published <= target }
    let after = known.filter { RabbitMQLedger.kept.contains($0.queue) && $0.published > target }.count
    var (there, missing, extra, different, disordered) = (0, 0, 0, 0, 0)
    for queue in RabbitMQLedger.kept {
      let entries = wanted.filter { $0.queue == queue }
      let messages = seen[queue] ?? []
      let byNumber = Dictionary(
        entries.map { ("\(queue)-\($0.sequence)", $0) }, uniquingKeysWith: { first, _ in first })
      let ids = try messages.map { try $0.decodedProperties().messageID ?? "" }
      for (message, id) in zip(messages, ids) {
        guard let entry = byNumber[id] else {
          extra += 1
          continue
        }
        if try !RabbitMQLedger.isEqual(message, entry) { different += 1 }
      }
      let expected = entries.map { "\(queue)-\($0.sequence)" }
      if ids != expected { disordered += 1 }
      missing += Set(expected).subtracting(ids).count
      there += Set(expected).intersection(ids).count
    }
    run.check(
      self, "every confirmed message up to the target is there", missing == 0 && there > 0,
      "\(there) there, \(missing) missing")
    run.check(
      self, "none after the target, none twice, all in order", extra == 0 && disordered == 0 && after > 0,
      "\(extra) too many of the \(after) that were published later, \(disordered) queues out of order")
    run.check(
      self, "properties and bodies are equal", different == 0 && there > 0, "\(different) of \(there) differ")
    // A replay repeats what was consumed: what was not consumed must be among it.
    let drained = try await RabbitMQLedger.read(restored.settings, RabbitMQLedger.drained, logger: run.logger).count
    run.check(
      self, "the drained queue holds no more than was published",
      drained <= known.filter { $0.queue == RabbitMQLedger.drained && $0.published <= target }.count,
      "\(drained) messages that may have been consumed before")
    let manifest = try await newest(run)
    let probes = try await RabbitMQProbes(
      restored.settings, manifest: manifest,
      probes: [.connectivity, .alarms, .cluster, .queues, .quorum, .deadLetters, .roundTrip],
      vhost: RabbitMQLedger.vhost
    ).verify(logger: run.logger)
    run.check(self, "probes of the restored broker", probes)
    try await removeRestored()
  }

  func recoverLatest(_ run: DrillRun) async throws {
    let restored = try await restore(to: .latest, counts: false, run)
    let seen = try await read(restored, run)
    var (missing, there, holes): (Int, Int, Int) = (0, 0, 0)
    var loss: Int64 = 0
    for queue in RabbitMQLedger.kept {
      let entries = known.filter { $0.queue == queue }
      let ids = Set(try (seen[queue] ?? []).map { try $0.decodedProperties().messageID ?? "" })
      let recovered = entries.filter { ids.contains("\(queue)-\($0.sequence)") }
      let last = recovered.map(\.published).max() ?? 0
      missing += entries.count - recovered.count
      there += recovered.count
      holes += entries.filter { $0.published < last && !ids.contains("\(queue)-\($0.sequence)") }.count
      loss = max(loss, (entries.map(\.published).max() ?? 0) - last)
    }
    run.lost(.milliseconds(loss), "\(missing) of \(missing + there) messages", self)
    run.check(
      self, "nothing is missing before what came back", holes == 0 && there > 0, "\(holes) holes in \(there) messages")
    try await removeRestored()
  }

  private func newest(_ run: DrillRun) async throws -> BackupManifest {
    try await run.repository.catalog(of: component).backup(of: component, for: .latest)
  }

  private func restore(to target: RecoveryTarget, counts: Bool, _ run: DrillRun) async throws -> RabbitMQSandbox {
    let manifest = try await run.measure(self, "find the backup", counts: counts) { try await newest(run) }
    let restored = try await run.measure(self, "start a new broker", counts: counts) {
      try await RabbitMQSandbox.create(logger: run.logger)
    }
    self.restored = restored
    let reader = run.repository.reader(for: manifest, decoding: run.decoding)
    var definitions = RabbitMQDefinitionsRestorer(broker: restored.settings)
    definitions.isHarmless = true
    let report = try await run.measure(self, "definitions: import, export again, compare", counts: counts) {
      try await definitions.run(from: reader, logger: run.logger)
    }
    if counts { run.check(self, "definitions are as in the backup", report.findings) }
    var messages = RabbitMQMessageRestorer(broker: restored.settings)
    messages.tap = try RabbitMQTapLog(
      tier: run.repository.tier, component: component, cluster: manifest.systemIdentifier ?? "", encoding: run.encoding,
      decoding: run.decoding)
    messages.progress = ProgressBar("restore").handler
    let restorer = messages
    let outcome = try await run.measure(self, "messages: read, decrypt, publish, confirm", counts: counts) {
      try await restorer.restore(from: reader, to: target, logger: run.logger)
    }
    run.say("\(outcome.items) messages were published again and confirmed")
    return restored
  }

  private func read(_ broker: RabbitMQSandbox, _ run: DrillRun) async throws -> [String: [ArchivedMessage]] {
    var messages: [String: [ArchivedMessage]] = [:]
    for queue in RabbitMQLedger.kept {
      messages[queue] = try await RabbitMQLedger.read(broker.settings, queue, logger: run.logger)
    }
    return messages
  }

  private func removeRestored() async throws {
    try await restored?.remove()
    restored = nil
  }

  func refuseDamage(_ run: DrillRun) async throws {
    let manifest = try await newest(run)
    let sound = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: run.repository, decoding: run.decoding), logger: run.logger)
    run.check(
      self, "the backup's bytes", sound.verdict == .passed,
      sound.obstacle ?? "\(sound.findings.filter { $0.severity == .passed }.count) findings passed")
    let record = RabbitMQQueueRecord.all(of: manifest).first { $0.name == "tasks" }
    guard let record else { throw DRError(.malformedData, "the backup holds no queue 'tasks'") }
    let damaged = run.damaged(try manifest.artifact(record.artifact))
    let verdict = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: damaged, decoding: run.decoding), logger: run.logger)
    run.check(
      self, "the verifier notices a flipped bit", verdict.verdict == .failed,
      verdict.findings.first { $0.severity == .failure }?.evidence ?? "it noticed nothing")
  }

  func openingCommands(_ run: DrillRun) async throws -> [String] {
    let definitions = try await newest(run).artifact("definitions.json")
    let open = run.isEncrypted ? "age -d -i \(run.folder.identity)" : "cat"
    return [
      "\(open) \(run.folder.repository)/\(definitions.key) | zstd -d | python3 -m json.tool | head",
      "find \(run.folder.repository)/rabbitmq/messages -type f",
    ]
  }

  func close() async {
    tapping?.cancel()
    await ledger?.stop()
    for sandbox in [broker, restored].compactMap({ $0 }) { try? await sandbox.remove() }
  }
}

extension String {
  fileprivate var asJSON: JSONValue { .string(self) }
}
