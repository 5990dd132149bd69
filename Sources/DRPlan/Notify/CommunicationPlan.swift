public import struct Foundation.Date

/// Who is told what, how long after an incident began, and who takes over when it is not over by then: a value.
public struct CommunicationPlan: Hashable, Sendable {
  /// A message that goes out at a time, and again from then on.
  public struct Message: Hashable, Sendable {
    public var message: IncidentMessage
    public var after: Span
    /// Nil: once.
    public var every: Span?
    /// Roles or addresses, as the channels know them.
    public var audience: [String]

    public init(_ message: IncidentMessage, after: Span, every: Span? = nil, to audience: [String]) {
      self.message = message
      self.after = after
      self.every = every
      self.audience = audience
    }
  }

  /// Who is called in, if it is not over by then.
  public struct Level: Hashable, Sendable {
    public var after: Span
    public var who: [String]

    public init(after: Span, _ who: [String]) {
      self.after = after
      self.who = who
    }
  }

  public var messages: [Message]
  /// In the order of their times.
  public var escalation: [Level]
  /// Who hears that it is over.
  public var everybody: [String]

  public init(messages: [Message], escalation: [Level], everybody: [String]) {
    self.messages = messages
    self.escalation = escalation.sorted { $0.after < $1.after }
    self.everybody = everybody
  }

  /// Of the plan document.
  public static let document = CommunicationPlan(
    messages: [
      Message(.alert, after: .minutes(0), to: ["incident commander", "DBA", "CIO"]),
      Message(.status, after: .minutes(15), every: .minutes(15), to: ["engineering leads", "managers"]),
      Message(.customers, after: .minutes(15), every: .minutes(30), to: ["customers"]),
      Message(.business, after: .minutes(30), every: .minutes(30), to: ["VP Product", "VP Engineering", "Sales"]),
    ],
    escalation: [
      Level(after: .minutes(0), ["on-call engineer"]),
      Level(after: .minutes(15), ["engineering lead", "manager"]),
      Level(after: .minutes(30), ["director", "CIO"]), Level(after: .minutes(60), ["C-suite executive", "board"]),
    ], everybody: ["all stakeholders"])

  /// The level that an incident has reached; nil before the first.
  public func level(at elapsed: Span) -> Level? { escalation.last { $0.after <= elapsed } }

  /// One thing that is due.
  public struct Due: Hashable, Sendable {
    public var at: Date
    public var message: IncidentMessage
    public var audience: [String]
    /// Whether it calls in the next level.
    public var isEscalation: Bool
  }

  /// What falls due within a range of time, in order.
  ///
  /// - Parameter began: When the incident did.
  public func due(in range: Range<Date>, began: Date) -> [Due] {
    var due: [Due] = []
    for message in messages {
      var moment = began.addingTimeInterval(message.after.seconds)
      while moment < range.upperBound {
        if moment >= range.lowerBound {
          due.append(Due(at: moment, message: message.message, audience: message.audience, isEscalation: false))
        }
        guard let every = message.every, every.seconds >= 1 else { break }
        moment = moment.addingTimeInterval(every.seconds)
      }
    }
    for level in escalation {
      let moment = began.addingTimeInterval(level.after.seconds)
      guard range.contains(moment) else { continue }
      due.append(Due(at: moment, message: .alert, audience: level.who, isEscalation: true))
    }
    return due.enumerated().sorted { ($0.element.at, $0.offset) < ($1.element.at, $1.offset) }.map(\.element)
  }

  /// When something is next due, from a moment on.
  func next(from moment: Date, began: Date) -> Date? {
    let first = messages.compactMap { message -> Date? in
      let start = began.addingTimeInterval(message.after.seconds)
      if start >= moment { return start }
      guard let every = message.every, every.seconds >= 1 else { return nil }
      return start.addingTimeInterval((moment.timeIntervalSince(start) / every.seconds).rounded(.up) * every.seconds)
    }
    let levels = escalation.map { began.addingTimeInterval($0.after.seconds) }.filter { $0 >= moment }
    return (first + levels).min()
  }
}
