import DRCore
import DRPlan
import DRRabbitMQ
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// What is done after the disaster.
extension RabbitMQDrill {
  func remember(_ memory: Data) throws {
    let memory = try JSONDecoder().decode(Memory.self, from: memory)
    (address, known) = (memory.address, memory.known)
  }

  func look(_ logger: Logger) async throws -> String {
    try await HealthCheck(.tcp(host: address.host, port: address.port)).once.perform()
  }

  func recover(to moment: Date, _ run: DrillRun) async throws {
    back = try await bringBack(to: moment, counts: true, run)
    run.answered(self)
  }

  func bringBack(to moment: Date, counts: Bool, _ run: DrillRun) async throws -> Back {
    let (restored, definitions) = try await restore(to: .time(moment), counts: counts, run)
    let seen = try await run.measure(self, "first right answer: every queue read", counts: counts) {
      try await read(restored, run)
    }
    return Back(broker: restored, definitions: definitions, seen: seen)
  }

  func verify(_ moment: Date, _ run: DrillRun) async throws {
    let back: Back
    if let there = self.back { back = there } else { back = try await bringBack(to: moment, counts: false, run) }
    let (restored, seen) = (back.broker, back.seen)
    run.check(self, "definitions are as in the backup", back.definitions)
    let target = Int64((moment.timeIntervalSince1970 * 1000).rounded(.down))
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
    let restored = try await restore(to: .latest, counts: false, run).broker
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

  func newest(_ run: DrillRun) async throws -> BackupManifest {
    try await run.repository.catalog(of: component).backup(of: component, for: .latest)
  }

  func restore(to target: RecoveryTarget, counts: Bool, _ run: DrillRun) async throws -> (
    broker: RabbitMQSandbox, definitions: [Finding]
  ) {
    try await removeRestored()
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
    return (restored, report.findings)
  }

  func read(_ broker: RabbitMQSandbox, _ run: DrillRun) async throws -> [String: [ArchivedMessage]] {
    var messages: [String: [ArchivedMessage]] = [:]
    for queue in RabbitMQLedger.kept {
      messages[queue] = try await RabbitMQLedger.read(broker.settings, queue, logger: run.logger)
    }
    return messages
  }

  func removeRestored() async throws {
    try await restored?.remove()
    (restored, back) = (nil, nil)
  }

  func refuseDamage(_ run: DrillRun) async throws {
    let manifest = try await newest(run)
    guard let record = RabbitMQQueueRecord.all(of: manifest).first(where: { $0.name == "tasks" }) else {
      throw DRError(.malformedData, "the backup holds no queue 'tasks'")
    }
    try await removeRestored()
    let target = try await RabbitMQSandbox.create(logger: run.logger)
    restored = target
    // The queues come first; what refuses the damage is the restore of their messages.
    var definitions = RabbitMQDefinitionsRestorer(broker: target.settings)
    definitions.isHarmless = true
    _ = try await definitions.run(
      from: run.repository.reader(for: manifest, decoding: run.decoding), logger: run.logger)
    try await run.control(self, of: manifest, damaging: try manifest.artifact(record.artifact)) { reader in
      _ = try await RabbitMQMessageRestorer(broker: target.settings)
        .restore(from: reader, to: .latest, logger: run.logger)
    } isUntouched: {
      try await read(target, run).values.allSatisfy(\.isEmpty)
    }
    try await removeRestored()
  }
}
