public import DRCore
public import Foundation

/// What the looks of a detection have come to: a value, without a clock.
public struct DetectionState: Sendable {
  /// A disaster that was noticed.
  public struct Opened: Hashable, Sendable, Codable {
    public var incident: String
    public var severity: String
    public var component: Component?
    /// The last moment at which all of it was well: it cannot have begun before. Nil: it never was.
    public var lastWell: Date?
    /// The first look that failed.
    public var firstSeen: Date
    public var opened: Date
    /// What each probe saw.
    public var symptoms: [String: String]
    public var plan: String

    /// The earliest moment at which it can have begun: from it times count, so that none is better than it was.
    public var began: Date { lastWell ?? firstSeen }

    /// At most so long it went unnoticed; nil: it never was seen to be well, and may have begun long before.
    public var timeToDetect: Span? { lastWell.map { .seconds(opened.timeIntervalSince($0)) } }
  }

  private struct Seen {
    var failures = 0
    var since: Date?
    var lastWell: Date?
    var evidence = ""
    /// The last counters.
    var counters: [Double]?
    /// What was not looked at yet is not known to be well.
    var isWell: Bool { failures == 0 && lastWell != nil }
  }

  private let rules: DetectionRules
  private var seen: [String: Seen] = [:]
  /// Open until every probe of it was well again.
  public private(set) var open: Set<String>
  private var closed: [String] = []

  /// - Parameter open: Incidents that were open before: they are not opened anew while what they are by goes on.
  public init(_ rules: DetectionRules, open: Set<String> = []) {
    self.rules = rules
    self.open = open.intersection(rules.incidents.map(\.name))
  }

  /// What was open, and of which every probe is well by now. Each is said once.
  public mutating func takeClosed() -> [String] {
    defer { closed = [] }
    return closed
  }

  /// What a look saw.
  public enum Answer: Sendable {
    case well(String)
    case failed(String)
    /// What a program said, whose numbers decide.
    case said(String)
  }

  /// Takes in one look.
  ///
  /// - Returns: What this look has opened.
  public mutating func enter(_ id: String, _ answer: Answer, at moment: Date) -> [Opened] {
    guard let probe = rules.probes.first(where: { $0.id == id }) else { return [] }
    var entry = seen[id] ?? Seen()
    let isWell: Bool?
    switch answer {
    case .well(let text): (isWell, entry.evidence) = (true, text)
    case .failed(let text): (isWell, entry.evidence) = (false, text)
    case .said(let text): isWell = Self.judge(text, probe, &entry)
    }
    switch isWell {
    case nil: break
    case true?:
      (entry.failures, entry.since, entry.lastWell) = (0, nil, moment)
    case false?:
      entry.failures += 1
      entry.since = entry.since ?? moment
    }
    seen[id] = entry
    return incidents(at: moment)
  }

  /// Whether what was measured is within its limits; nil: nothing can be said yet.
  private static func judge(_ text: String, _ probe: DetectionRules.Probe, _ entry: inout Seen) -> Bool? {
    let words = text.split(whereSeparator: { $0.isWhitespace || $0 == "," })
    let count = if case .share = probe.look { 2 } else { 1 }
    let numbers = words.suffix(count).compactMap { Double($0) }
    guard numbers.count == count, numbers.allSatisfy(\.isFinite) else {
      entry.evidence = "said no number: \(text.prefix(120))"
      return false
    }
    let value: Double
    switch probe.look {
    case .succeeds, .number: value = numbers[0]
    case .growth, .share:
      let before = entry.counters
      entry.counters = numbers
      // A counter that fell was begun anew: there is nothing to compare.
      guard let before, zip(numbers, before).allSatisfy({ $0 >= $1 }) else { return nil }
      let part = numbers[0] - before[0]
      if count == 1 {
        value = part
      } else {
        let whole = numbers[1] - before[1]
        // Nothing happened: that says neither.
        guard whole > 0 else { return nil }
        value = part / whole
      }
    }
    let isOver = probe.above.map { value > $0 } ?? false
    let isUnder = probe.below.map { value < $0 } ?? false
    let limit = [probe.above.map { "at most \(plain($0))" }, probe.below.map { "at least \(plain($0))" }]
      .compactMap { $0 }.joined(separator: ", ")
    entry.evidence = "\(plain(value)), \(limit) allowed"
    return !isOver && !isUnder
  }

  private static func plain(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\((value * 1000).rounded() / 1000)"
  }

  private mutating func incidents(at moment: Date) -> [Opened] {
    var opened: [Opened] = []
    for incident in rules.incidents {
      let probes = rules.probes.filter { incident.when.contains($0.id) }
      let symptoms = probes.filter { (seen[$0.id]?.failures ?? 0) >= $0.failures }
      if symptoms.count >= incident.atLeast {
        guard open.insert(incident.name).inserted else { continue }
        let entries = symptoms.compactMap { seen[$0.id] }
        opened.append(
          Opened(
            incident: incident.name, severity: incident.severity, component: incident.component,
            lastWell: entries.compactMap(\.lastWell).max(), firstSeen: entries.compactMap(\.since).min() ?? moment,
            opened: moment,
            symptoms: Dictionary(
              symptoms.map { ($0.id, seen[$0.id]?.evidence ?? "") }, uniquingKeysWith: { first, _ in first }),
            plan: incident.plan))
      } else if open.contains(incident.name), probes.allSatisfy({ seen[$0.id]?.isWell ?? false }) {
        open.remove(incident.name)
        closed.append(incident.name)
      }
    }
    return opened
  }
}
