import DRCore
import DRPlan
import Foundation
import Logging

/// Looks at the drill's systems as a platform's monitoring does. The disaster is noticed by it; nobody tells it.
final class DrillWatch: Sendable {
  static let incident = "platform-lost"

  let rules: DetectionRules
  private let logger: Logger
  private let state = MutableBox<(opened: [DetectionState.Opened], looks: Int)>(([], 0))
  private let running = MutableBox<Task<Void, any Error>?>(nil)

  /// - Parameter plan: The plan against what it notices.
  init(_ systems: [any DrillSystem], plan: String, logger: Logger) throws {
    self.logger = logger
    let probes = systems.map { system in
      DetectionRules.Probe(
        "\(system.component.kind.rawValue)-answers", every: Span(.milliseconds(500)), patience: .seconds(5),
        failures: 2,
        CustomAction("ask \(system.component) as a client does") { try await system.look(logger) })
    }
    // More than half of them: one alone would be another incident, with another plan.
    rules = try DetectionRules(
      probes: probes,
      incidents: [
        DetectionRules.Incident(
          Self.incident, severity: "P1", when: probes.map(\.id), atLeast: probes.count / 2 + 1, plan: plan, go: .auto)
      ])
  }

  /// May be called again.
  func start() {
    guard running.value == nil else { return }
    let state = state
    let detector = Detector(
      rules, logger: logger, onLook: { _, _, _ in state.withLock { $0.looks += 1 } },
      onIncident: { opened in state.withLock { $0.opened.append(opened) } })
    running.withLock { $0 = Task { try await detector.run() } }
  }

  func stop() async {
    let task = running.withLock { running in
      defer { running = nil }
      return running
    }
    task?.cancel()
    _ = await task?.result
  }

  /// How often it has looked, and what it took for a disaster, so far.
  var soFar: (looks: Int, opened: [DetectionState.Opened]) { (state.value.looks, state.value.opened) }

  /// Waits until it has noticed what happened at a moment or after it. The step's limit ends it.
  func noticed(since disaster: Date) async throws -> DetectionState.Opened {
    while true {
      if let opened = state.value.opened.first(where: { $0.opened >= disaster }) { return opened }
      try await Task.sleep(for: .milliseconds(10))
    }
  }
}
