import struct Foundation.Date

/// Where things lie on the timeline of a report, in percent of its width.
struct ReportTimeline {
  let origin: Date
  /// In seconds, of what is drawn to scale.
  let length: Double
  /// In percent: less than all of it where the target lies beyond what is drawn.
  let width: Double
  /// The line of the target; nil without one.
  let target: Double?
  let isTargetOffScale: Bool

  /// - Parameter target: From the disaster.
  init(_ report: RunReport) {
    let steps = report.phases.flatMap(\.steps)
    let begins = steps.compactMap(\.started) + report.phases.compactMap(\.started) + [report.started]
    let ends = steps.compactMap(\.ended) + report.phases.compactMap(\.ended) + [report.ended]
    // What came before the disaster is drawn too.
    let first = (begins + [report.disaster].compactMap { $0 }).min() ?? report.started
    let last = ends.max() ?? report.ended
    origin = first
    let run = max(last.timeIntervalSince(first), 0.001)
    let target = report.rto.target.map {
      (report.disaster ?? report.started).timeIntervalSince(first) + $0.seconds
    }
    // A target many times as long would leave no room for the steps.
    let isOffScale = target.map { $0 > run * 4 } ?? false
    isTargetOffScale = isOffScale
    length = max(run, isOffScale ? 0 : target ?? 0) * 1.02
    width = isOffScale ? 90 : 100
    self.target = target.map { [length, width] in isOffScale ? 96 : $0 / length * width }
  }

  func position(_ date: Date) -> Double {
    min(max(date.timeIntervalSince(origin) / length, 0), 1) * width
  }

  /// Round figures, at most six, in seconds from the origin.
  var ticks: [Double] {
    let steps: [Double] = [
      0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400,
    ]
    let step = steps.first { length / $0 <= 5 } ?? (length / 5 / 86_400).rounded(.up) * 86_400
    return Array(stride(from: 0, through: length, by: step))
  }
}
