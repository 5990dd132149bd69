public import DRCore

/// The clock of a restore test: which phase took how long, and whether all that counts stayed within what is allowed.
public struct RestorePhases: Sendable {
  /// One phase, and whether it is a part of the recovery time.
  public struct Phase: Hashable, Sendable {
    public var name: String
    public var duration: Duration
    public var counts: Bool
  }

  public private(set) var phases: [Phase] = []
  /// The recovery time objective.
  public let limit: Duration

  public init(limit: Duration) { self.limit = limit }

  /// - Parameter counts: Whether it is a part of the recovery time, which ends with the first right answer.
  public mutating func measure<Result>(
    _ name: String, counts: Bool = true, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> Result
  ) async rethrows -> Result {
    let start = ContinuousClock.now
    let result = try await body()
    phases.append(Phase(name: name, duration: start.duration(to: .now), counts: counts))
    return result
  }

  /// From the beginning to the first right answer.
  public var recoveryTime: Duration { phases.filter(\.counts).reduce(.zero) { $0 + $1.duration } }

  /// A notice for each phase, and `restore-time`, which fails if the limit is exceeded.
  public func findings(_ subject: String) -> [Finding] {
    func seconds(_ duration: Duration) -> String { "\((duration / .milliseconds(1)).rounded() / 1000) s" }
    let good = recoveryTime <= limit
    return phases.map { phase in
      Finding(
        "phase", .notice, subject: "\(subject): \(phase.name)",
        evidence: seconds(phase.duration) + (phase.counts ? "" : ", not a part of the recovery time"))
    } + [
      Finding(
        "restore-time", good ? .passed : .failure, subject: subject,
        evidence: "\(seconds(recoveryTime)) from the beginning to the first right answer, \(seconds(limit)) allowed",
        advice: good ? nil : "see which phase takes longest: a nearer tier, more workers, a newer base backup")
    ]
  }
}
