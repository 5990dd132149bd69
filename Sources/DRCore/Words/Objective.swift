/// How fast a component must be back, and how much of its data may be lost.
public struct Objective: Hashable, Sendable, Codable {
  /// Recovery priority, the plan's triage level.
  public enum Priority: Int, Sendable, Codable, Comparable {
    case critical = 1
    case high = 2
    case medium = 3

    public static func < (left: Priority, right: Priority) -> Bool { left.rawValue < right.rawValue }
  }

  /// Recovery time objective: from the disaster to the first right answer of the restored service.
  public var rto: Duration
  /// Recovery point objective: the age of the newest position that can be recovered.
  public var rpo: Duration
  public var priority: Priority

  public init(rto: Duration, rpo: Duration, priority: Priority) {
    self.rto = rto
    self.rpo = rpo
    self.priority = priority
  }
}
