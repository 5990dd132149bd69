import DRCore
import Foundation
import Synchronization

/// Through which moment all queues of a tap are durable: the earliest of theirs.
///
/// The moments come from connections side by side; the points go out one after another, in their order.
final class TapProgress: Sendable {
  private struct State {
    var moments: [String: Date]
    var segments: [String: Int] = [:]
    var told: Date?
  }

  private let state: Mutex<State>
  private let output: AsyncStream<RecoveryPoint>.Continuation
  private let points: AsyncStream<RecoveryPoint>

  init(_ queues: [TapCoverage]) {
    state = Mutex(State(moments: Dictionary(queues.map { ($0.key, Date.distantPast) }, uniquingKeysWith: { $1 })))
    (points, output) = AsyncStream<RecoveryPoint>.makeStream(bufferingPolicy: .bufferingNewest(1000))
  }

  /// Says that everything that was published to a queue up to a moment is durable.
  ///
  /// - Parameter segments: How many segments of it are stored.
  func advance(_ queue: TapCoverage, through moment: Date, segments: Int) {
    state.withLock { state in
      state.moments[queue.key] = moment
      state.segments[queue.key] = segments
      guard let earliest = state.moments.values.min(), earliest > .distantPast, earliest > state.told ?? .distantPast
      else { return }
      state.told = earliest
      let count = state.segments.values.reduce(0, +)
      output.yield(RecoveryPoint(time: earliest, position: "\(count) segments"))
    }
  }

  /// Hands the points on until the task is cancelled.
  func report(to onDurable: @Sendable (RecoveryPoint) async -> Void) async {
    for await point in points { await onDurable(point) }
  }
}
