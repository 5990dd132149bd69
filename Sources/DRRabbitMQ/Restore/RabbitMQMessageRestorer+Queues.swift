import DRCore
import Logging

extension RabbitMQMessageRestorer {
  /// Restores one queue after another. What goes wrong with one does not keep the others from being restored.
  ///
  /// - Returns: Bytes of bodies, and messages that were published now.
  /// - Throws: ``DRError`` that names each queue that is not as it should be, once the others are restored; at once, with those that
  ///   are left, where no other could be.
  func restoreEach(
    _ destinations: [Destination], _ limit: Int64?, _ logger: Logger
  ) async throws -> (bytes: Int64, items: Int) {
    let meter = progress.map {
      ProgressMeter("messages", total: destinations.reduce(0) { $0 + $1.record.summary.bodyBytes }, handler: $0)
    }
    var (bytes, items): (Int64, Int) = (0, 0)
    var failures: [Failure] = []
    for (index, destination) in destinations.enumerated() {
      let title = destination.queue.title
      meter?.begin(destination.record.title)
      do {
        let outcome = try await restore(destination, limit, meter, logger)
        onQueue?(outcome)
        bytes += destination.record.summary.bodyBytes
        items += Int(outcome.published)
        if let short = outcome.findings.first(where: { $0.check == Self.depthCheck && $0.severity == .failure }) {
          failures.append(
            Failure(title: title, error: DRError(.sourceFailed, short.evidence, advice: short.advice, object: title)))
        }
      } catch var error as DRError {
        error.object = error.object ?? title
        guard Self.isOfOneQueue(error) else {
          throw Self.ended(by: error, failures, left: destinations[index...].map(\.queue.title))
        }
        logger.error("a queue could not be restored", metadata: ["rabbitmq.queue": "\(title)", "error": "\(error)"])
        onFailure?(title, error)
        failures.append(Failure(title: title, error: error))
      }
    }
    meter?.finish()
    guard let first = failures.first else { return (bytes, items) }
    guard destinations.count > 1 else { throw first.error }
    throw DRError(
      .sourceFailed,
      "\(failures.count) of \(destinations.count) queues are not restored as they should be: " + Self.list(failures),
      advice: (first.error.advice.map { "\($0); " } ?? "") + "the other queues are restored",
      cause: failures.count == 1 ? first.error.cause : nil)
  }

  private struct Failure {
    var title: String
    var error: DRError
  }

  private static func list(_ failures: [Failure]) -> String {
    failures.map { "\($0.title): \($0.error.message)" }.joined(separator: "; ")
  }

  /// Whether another queue may be restored nevertheless: broker, repository and journals are as they were.
  private static func isOfOneQueue(_ error: DRError) -> Bool {
    guard ![.timedOut, .notWritable, .noSpace, .tierUnavailable].contains(error.code) else { return false }
    // 0: the network's word, or the library's; 320: the broker is told to stop.
    return error.rabbitMQCode.map { ![0, 320].contains($0) } ?? true
  }

  private static func ended(by error: DRError, _ failures: [Failure], left: [String]) -> DRError {
    var error = error
    if left.count > 1 { error.message += ". Not restored: \(left.joined(separator: ", "))" }
    if !failures.isEmpty { error.message += ". Before: \(list(failures))" }
    return error
  }
}
