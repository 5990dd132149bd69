/// One key performance indicator: what was aimed at, what was measured, and from what.
public struct KeyFigure: Hashable, Sendable, Codable {
  public enum State: String, Hashable, Sendable, Codable {
    case met, missed
    /// Nothing was measured: it is not met.
    case noData = "no data"
  }

  /// Stable: `backup-success-rate`.
  public var id: String
  public var title: String
  /// `≥ 99.9 %`.
  public var target: String
  /// Nil: no data.
  public var value: String?
  public var state: State
  /// From what it was computed, or why it could not be.
  public var basis: String

  init(_ id: String, _ title: String, target: String, value: String, isMet: Bool, basis: String) {
    self.id = id
    self.title = title
    self.target = target
    self.value = value
    state = isMet ? .met : .missed
    self.basis = basis
  }

  init(_ id: String, _ title: String, target: String, noData reason: String) {
    self.id = id
    self.title = title
    self.target = target
    state = .noData
    basis = reason
  }
}
