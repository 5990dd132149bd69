import DRCore
import Foundation
public import Logging
public import ServiceLifecycle

/// Looks at a platform again and again, each probe on its own interval, and tells what it takes for a disaster.
public struct Detector: Service {
  public let rules: DetectionRules
  private let onLook: @Sendable (_ probe: String, _ failed: Bool, _ evidence: String) async -> Void
  private let onIncident: @Sendable (DetectionState.Opened) async -> Void
  /// Incidents that are open when it begins: see ``DetectionState/init(_:open:)``.
  public var open: Set<String> = []
  /// Told each incident of which everything is well again.
  public var onClosed: @Sendable (_ incident: String) async -> Void = { _ in }
  private let logger: Logger

  /// - Parameters:
  ///   - logger: Used by ``run()``.
  ///   - onLook: Told each look.
  ///   - onIncident: Told each incident once, until everything that it is by was well again. It may take its time: the looks of the other probes go on.
  public init(
    _ rules: DetectionRules, logger: Logger,
    onLook: @escaping @Sendable (_ probe: String, _ failed: Bool, _ evidence: String) async -> Void = { _, _, _ in },
    onIncident: @escaping @Sendable (DetectionState.Opened) async -> Void
  ) {
    self.rules = rules
    self.logger = logger
    self.onLook = onLook
    self.onIncident = onIncident
  }

  /// Looks until it is shut down or cancelled.
  public func run() async throws {
    let state = MutableBox(DetectionState(rules, open: open))
    await cancelWhenGracefulShutdown {
      await withTaskGroup(of: Void.self) { group in
        for probe in rules.probes {
          group.addTask {
            while !Task.isCancelled {
              let answer = await Self.look(probe)
              guard !Task.isCancelled else { return }
              let (opened, closed) = state.withLock { state in
                let opened = state.enter(probe.id, answer, at: Date())
                return (opened, state.takeClosed())
              }
              switch answer {
              case .well(let text): await onLook(probe.id, false, text)
              case .failed(let text): await onLook(probe.id, true, text)
              case .said(let text): await onLook(probe.id, false, text)
              }
              for incident in closed { await onClosed(incident) }
              for incident in opened {
                logger.error("an incident was opened", metadata: ["incident": "\(incident.incident)"])
                await onIncident(incident)
              }
              try? await Task.sleep(for: probe.every.duration)
            }
          }
        }
      }
    }
  }

  private static func look(_ probe: DetectionRules.Probe) async -> DetectionState.Answer {
    do {
      return try await withTimeLimit(probe.patience.duration, "the look") {
        switch probe.look {
        case .succeeds(let action): .well(try await action.perform())
        case .number(let command), .share(let command), .growth(let command): .said(try await command.perform())
        }
      }
    } catch {
      return .failed(DRError.text(of: error))
    }
  }
}
