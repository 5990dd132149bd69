import DRCore
import DRPlan
import ExampleSupport
import Foundation

/// Everything up to the disaster, and what must be known after it, which is made durable then.
struct DrillDisaster: Sendable {
  private let run: DrillRun
  private let systems: [any DrillSystem]
  private let watch: DrillWatch
  private let begun = Date()

  init(_ run: DrillRun, _ systems: [any DrillSystem], _ watch: DrillWatch) {
    (self.run, self.systems, self.watch) = (run, systems, watch)
  }

  func strike() async throws -> DrillMemory {
    try await each { try await $0.start(run) }
    watch.start()
    if let tier = run.store.startReplication(run.logger) {
      run.say("copying the repository to \(tier) as it grows")
    }
    try await pause()
    try await each { try await $0.backUp(run) }
    try await pause()
    let moment = try await targetMoment()
    try await pause()
    if run.store.copy != nil {
      // The moment is in the copy; what comes after it is lost as far as the copy was behind.
      try await run.store.catchUp()
      try await pause()
    }
    let before = watch.soFar
    run.check(
      nil, "nothing was taken for a disaster before it", before.opened.isEmpty && before.looks > 0,
      "\(before.looks) looks, \(before.opened.count) incidents")
    run.say("disaster: kill -9 of every server, and their files are removed")
    let disaster = Date()
    run.disaster.withLock { $0 = disaster }
    await run.store.endReplication()
    try await each { try await $0.destroy(run) }
    if let second = try run.store.loseFirstTier() {
      run.say("the repository's folder is gone too: restoring from \(second)")
    }
    return try await remember(
      DrillMemory(
        options: run.options, begun: begun, target: moment, disaster: disaster, record: run.record,
        copy: run.store.copy,
        recipients: run.store.recipients))
  }

  /// Before anything is brought back: from here on the drill can be killed, and resumed.
  private func remember(_ memory: DrillMemory) async throws -> DrillMemory {
    let record = run.folder.record
    for system in systems { try await record.write(system.memory(), as: DrillFolderRecord.system(system.component)) }
    try record.write(memory, as: DrillFolderRecord.memory)
    run.say("the disaster is on record; everything goes back to \(Timestamp.format(memory.target))")
    return memory
  }

  /// One moment for the whole platform, between two changes of every system.
  private func targetMoment() async throws -> Date {
    let moment = MutableBox(Date())
    var body: @Sendable () async throws -> Void = {
      // A change's time is taken before it is written: this keeps both on the same side of the moment.
      try await Task.sleep(for: .milliseconds(2))
      // In whole microseconds, which is what every system's clock has.
      let now = (Date().timeIntervalSince1970 * 1_000_000).rounded(.up) / 1_000_000
      moment.withLock { $0 = Date(timeIntervalSince1970: now) }
      try await Task.sleep(for: .milliseconds(2))
    }
    for system in systems {
      let inner = body
      body = { try await system.betweenChanges(inner) }
    }
    try await body()
    run.say("the target is \(Timestamp.format(moment.value))")
    return moment.value
  }

  private func pause() async throws { try await Task.sleep(for: .seconds(run.options.seconds)) }

  private func each(_ body: @escaping @Sendable (any DrillSystem) async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for system in systems { group.addTask { try await body(system) } }
      try await group.waitForAll()
    }
  }
}
