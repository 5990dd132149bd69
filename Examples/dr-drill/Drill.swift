import DRCore
import DRPlan
import ExampleSupport
import Foundation
import Logging

/// The drill: every system at once until the disaster, and after it a recovery plan with a journal, by this process or by another one that
/// resumes it.
struct Drill: Sendable {
  let run: DrillRun
  private let systems: [any DrillSystem]
  private let keeps: Bool
  /// Of one that is resumed.
  private let memory: DrillMemory?
  private let watch: DrillWatch

  init(_ options: DrillOptions, keeping keeps: Bool, logger: Logger) async throws {
    systems = try options.systems.map { try $0.make() }
    let folder = try DrillFolder()
    do {
      run = DrillRun(options, in: folder, try await DrillStore(options, in: folder), logger: logger)
    } catch {
      try? folder.remove()
      throw error
    }
    (self.keeps, memory) = (keeps, nil)
    watch = try DrillWatch(systems, plan: DrillPlan.name, logger: logger)
    run.say(
      "its folder is \(folder.path); killed after its disaster, it goes on with: dr-drill --resume \(folder.path)")
  }

  /// - Throws: ``DRError`` if there is nothing in the folder to go on with.
  init(resuming path: String, keeping keeps: Bool, logger: Logger) async throws {
    let folder = try DrillFolder(resuming: path)
    let record = folder.record
    var memory = try record.read(DrillFolderRecord.memory, as: DrillMemory.self)
    if let ended = memory.ended {
      throw DRError(
        .invalidConfiguration, "this drill has ended, at \(Timestamp.format(ended)): all of its steps are done",
        advice: "begin a new one", object: folder.path)
    }
    let lastSeen = record.lastSeen ?? memory.disaster
    memory.resumptions.append(DrillMemory.Resumption(lastSeen: lastSeen, at: Date()))
    systems = try memory.options.systems.map { try $0.make() }
    let store = try await DrillStore(resuming: memory, in: folder)
    run = DrillRun(memory.options, in: folder, store, logger: logger)
    run.disaster.withLock { $0 = memory.disaster }
    (self.keeps, self.memory) = (keeps, memory)
    watch = try DrillWatch(systems, plan: DrillPlan.name, logger: logger)
    try record.write(memory, as: DrillFolderRecord.memory)
    for system in systems {
      // What the killed one has left running must not meet what is begun again.
      try await system.endAbandoned(logger)
      try await system.remember(record.read(DrillFolderRecord.system(system.component)))
    }
    run.say(
      "resumed: its disaster was at \(Timestamp.format(memory.disaster)), and it was last seen at "
        + Timestamp.format(lastSeen))
  }

  /// - Returns: What it measured and saw. The folder is there until ``leave(_:)``, so that a report which cannot be written is not lost.
  func perform() async throws -> DrillReport {
    let isOnRecord = MutableBox(memory != nil)
    do {
      let memory: DrillMemory
      if let former = self.memory {
        memory = former
      } else {
        memory = try await DrillDisaster(run, systems, watch).strike()
      }
      isOnRecord.withLock { $0 = true }
      let (recovery, records) = try await bringBack(memory)
      var report = DrillReport(
        memory: memory, systems: systems.map(\.component), recovery: recovery, records: records)
      if keeps { report.notes = try await openingLines() }
      report.cleanUp = await cleanUp()
      report.ended = Date()
      return report
    } catch {
      let cleaned = await cleanUp(removing: !isOnRecord.value || Task.isCancelled)
      if cleaned.outcome != .done { run.say("not everything is cleaned up: \(cleaned.evidence)") }
      if isOnRecord.value, !Task.isCancelled, !keeps {
        run.say("what it knows is kept: dr-drill --resume \(run.folder.path)")
      } else if !keeps {
        try? run.folder.remove()
      }
      throw error
    }
  }

  private func bringBack(_ memory: DrillMemory) async throws -> (RecoveryReport, [String: DrillRecord]) {
    let former = try run.folder.record.steps()
    let records = MutableBox(former)
    let plan = try DrillPlan(run: run, systems: systems, watch: watch, moment: memory.target, records: records).make()
    var recovery = RecoveryRun(plan, journal: RecoveryJournal(at: run.folder.record.journal))
    recovery.since = memory.disaster
    recovery.onEvent = { [run] event in
      switch event {
      case .started(let step, _): run.say("\(step): begun")
      case .failed(let step, _, let error, _): run.say("\(step): failed: \(error)")
      case .ended(let entry):
        run.say("\(entry.step): \(entry.outcome.rawValue) in \(entry.duration): \(entry.evidence)")
      }
    }
    if former[DrillPlan.Stage.detect.rawValue] == nil { watch.start() }
    let report = try await recovery.run(logger: run.logger)
    await watch.stop()
    // It was told to end.
    if report.wasCancelled { throw CancellationError() }
    for step in plan.ordered where report.entries[step.id]?.isFromJournal == true { run.say("\(step.id): done before") }
    // What a step has left that the journal does not know is none of its own.
    return (report, records.value.filter { report.entries[$0.key] != nil })
  }

  private func openingLines() async throws -> [String] {
    guard run.options.tier == nil else {
      return [
        "", "The repository is kept: \(run.repository.tier.name)", "Remove the rest with: rm -r \(run.folder.path)",
      ]
    }
    var lines = ["", "The repository is in \(run.folder.repository). Stock tools open it:"]
    for system in systems { lines += try await system.openingCommands(run).map { "  " + $0 } }
    return lines + ["Remove it with: rm -r \(run.folder.path)"]
  }

  /// Whatever happened: not a child task, which cancellation would skip.
  private func cleanUp(removing: Bool = true) async -> RunReport.Step {
    let work = DrillCleanUp(run: run, systems: systems, watch: watch, isRemoving: removing && !keeps)
    return await Task { await work.perform() }.value
  }

  /// The folder goes last.
  func leave(_ report: DrillReport) throws {
    guard keeps else { return try run.folder.remove() }
    // What was not done can be done yet.
    if report.isDone {
      var memory = report.memory
      memory.ended = report.ended
      try run.folder.record.write(memory, as: DrillFolderRecord.memory)
    }
    run.folder.keep()
  }
}
