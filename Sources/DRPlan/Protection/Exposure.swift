public import DRCore
public import Foundation

/// What would be lost of a component if disaster struck, at every moment of a time: as a plan has it, or with failures in it.
public struct Exposure: Hashable, Sendable {
  /// From when on the data of a moment can be recovered, until the next step.
  public struct Step: Hashable, Sendable {
    public var durable: Date
    public var point: Date
  }

  public let range: Range<Date>
  /// In order; the first holds at the beginning of the range, if anything was durable by then.
  public let steps: [Step]

  /// The most that would be lost at any moment, and when; nil: at some moment nothing at all could be recovered.
  public var worst: (loss: Span, at: Date)? {
    guard let first = steps.first, first.durable <= range.lowerBound else { return nil }
    let ends = steps.dropFirst().map(\.durable) + [range.upperBound]
    return zip(steps, ends).map { (Span(.seconds($1.timeIntervalSince($0.point))), $1) }.max { $0.0 < $1.0 }
  }

  /// The times in which more than that would be lost.
  public func times(above limit: Span) -> [Range<Date>] {
    let ends = steps.dropFirst().map(\.durable) + [range.upperBound]
    var found: [Range<Date>] = []
    if steps.first.map({ $0.durable > range.lowerBound }) ?? true {
      found.append(range.lowerBound..<(steps.first?.durable ?? range.upperBound))
    }
    for (step, end) in zip(steps, ends) {
      let begin = max(step.durable, step.point.addingTimeInterval(limit.seconds), range.lowerBound)
      guard begin < end else { continue }
      if let last = found.last, last.upperBound >= begin {
        found[found.count - 1] = last.lowerBound..<end
      } else {
        found.append(begin..<end)
      }
    }
    return found
  }
}

extension ProtectionPlan {
  /// Runs the schedules of a component over a time, with a clock of its own: nothing is captured.
  ///
  /// A capture's recovery point is the moment at which it begins, durable when it has ended. A log, or an incremental backup, counts from
  /// a full one on that was durable before it.
  ///
  /// - Parameter failing: Whether a capture fails that begins at a moment; of a log, whether it stands still then.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for a component that the plan has not, and for a time zone that is none.
  public func exposure(
    of component: Component, in range: Range<Date>,
    failing: (_ capture: Capture, _ moment: Date) -> Bool = { _, _ in false }
  ) throws -> Exposure {
    let (protected, zone) = (try self.component(component), try zone())
    var full: [Exposure.Step] = []
    var others: [Exposure.Step] = []
    for capture in protected.captures where capture.purpose != .upkeep {
      let steps = moments(of: capture, in: range, zone).filter { !failing(capture, $0) }.map {
        Exposure.Step(durable: $0.addingTimeInterval(capture.delay), point: $0)
      }
      if capture.purpose == .full { full += steps } else { others += steps }
    }
    let firstFull = full.map(\.durable).min()
    // What goes on from a full one needs one that was durable before it.
    others = others.filter { step in firstFull.map { $0 <= step.point } ?? false }
    var steps: [Exposure.Step] = []
    for step in (full + others).sorted(by: { ($0.durable, $0.point) < ($1.durable, $1.point) })
    where step.durable < range.upperBound && steps.last.map({ step.point > $0.point }) ?? true {
      if step.durable <= range.lowerBound {
        steps = [step]
      } else {
        steps.append(step)
      }
    }
    return Exposure(range: range, steps: steps)
  }

  func zone() throws -> TimeZone {
    guard let zone = TimeZone(identifier: timeZone) else {
      throw DRError(.invalidConfiguration, "'\(timeZone.prefix(40))' is no time zone", advice: "write Europe/Berlin")
    }
    return zone
  }

  /// How far before a range runs are looked for, of which the range begins with the result.
  private static let earlierRuns = 20

  private func moments(of capture: Capture, in range: Range<Date>, _ zone: TimeZone) -> [Date] {
    switch capture.schedule {
    case .cron(let cron):
      var before: [Date] = []
      var moment = range.lowerBound
      while before.count < Self.earlierRuns, let earlier = cron.previous(before: moment, in: zone) {
        before.append(earlier)
        moment = earlier
      }
      return before.reversed() + cron.runs(in: range, zone: zone)
    case .continuous(let span), .onChange(let span):
      // Something happens all the time: what is durable is a step behind it.
      let step = max(span.seconds, 60)
      return stride(from: -step - span.seconds, to: range.upperBound.timeIntervalSince(range.lowerBound), by: step).map
      {
        range.lowerBound.addingTimeInterval($0)
      }
    }
  }
}

extension ProtectionPlan.Capture {
  /// From its recovery point until that is durable, in seconds.
  var delay: Double {
    switch schedule {
    case .cron: duration.seconds
    case .continuous(let span), .onChange(let span): span.seconds
    }
  }
}
