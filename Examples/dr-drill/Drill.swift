import DRCore
import Foundation
import Logging

/// The drill, phase by phase: every system at once until the disaster, then one after the other.
struct Drill: Sendable {
  private let run: DrillRun
  private let systems: [any DrillSystem]

  init(_ command: DrillCommand, logger: Logger) async throws {
    run = try await DrillRun(command, logger: logger)
    systems = try command.systems.map { try $0.make() }
  }

  func perform() async throws -> DrillReport {
    do {
      try await drill()
      run.end(systems)
      if run.command.keep { try await keep() }
      await close()
      return run.report
    } catch {
      await close()
      throw error
    }
  }

  private func drill() async throws {
    try await each { try await $0.start(run) }
    run.startReplication()
    try await pause()
    try await each { try await $0.backUp(run) }
    try await pause()
    let moment = try await targetMoment()
    run.aim(at: moment)
    try await pause()
    if run.hasSecondTier {
      // The moment is in the copy; what comes after it is lost as far as the copy was behind.
      try await run.catchUp()
      try await pause()
    }
    run.say("disaster: kill -9 of every server, and their files are removed")
    run.disasterStrikes()
    await run.endReplication()
    try await each { try await $0.destroy(run) }
    try run.loseFirstTier()
    run.begin(.recovery)
    run.say("restoring to \(Timestamp.format(moment))")
    for system in systems { try await system.recover(to: moment, run) }
    run.begin(.verification)
    run.say("restoring once more, to the latest")
    for system in systems { try await system.recoverLatest(run) }
    run.say("verifying the backups, and copies that are damaged on purpose")
    run.begin(.control)
    for system in systems {
      try await run.measure(system, "the verifier, on what is whole and on what is damaged") {
        try await system.refuseDamage(run)
      }
    }
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

  private func pause() async throws { try await Task.sleep(for: .seconds(run.command.seconds)) }

  private func each(_ body: @escaping @Sendable (any DrillSystem) async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for system in systems { group.addTask { try await body(system) } }
      try await group.waitForAll()
    }
  }

  private func keep() async throws {
    run.folder.keep()
    guard run.command.tier == nil else {
      return run.note([
        "", "The repository is kept: \(run.repository.tier.name)", "Remove the rest with: rm -r \(run.folder.path)",
      ])
    }
    var lines = ["", "The repository is in \(run.folder.repository). Stock tools open it:"]
    for system in systems { lines += try await system.openingCommands(run).map { "  " + $0 } }
    run.note(lines + ["Remove it with: rm -r \(run.folder.path)"])
  }

  /// Not a child task: cancellation must not skip it.
  private func close() async {
    await Task {
      for system in systems { await system.close() }
      await run.endReplication()
      guard !run.command.keep else { return }
      await run.removeCopy()
      run.folder.remove()
    }.value
  }
}

/// The systems that a drill can destroy, in the order in which they are brought back.
enum DrillSystems: String, CaseIterable, Sendable {
  case files
  case postgres
  case redis
  case rabbitmq

  func make() throws -> any DrillSystem {
    switch self {
    case .files: try FilesDrill()
    case .postgres: try PostgresDrill()
    case .redis: try RedisDrill()
    case .rabbitmq: try RabbitMQDrill()
    }
  }
}
