import DRCore
import Logging

extension ChangeJournal {
  /// A tier that fails is tried again until the task is cancelled.
  func retrying(_ work: () async throws -> Void) async throws {
    var failures = RepeatedError()
    var pause = BackOff(shortest: .milliseconds(100), longest: options.longestPause)
    let passing: Set<DRError.Code> = [.tierUnavailable, .noSpace, .notWritable, .timedOut]
    while true {
      do {
        try await work()
        if let time = failures.end() {
          logger.notice("changes are stored again", metadata: ["redis.log.failed_for": "\(time)"])
        }
        return
      } catch let error as DRError where passing.contains(error.code) {
        switch failures.next(error) {
        case .full: logger.error("changes cannot be stored; trying again", metadata: ["error": "\(error)"])
        case .short(let since):
          logger.error(
            "changes still cannot be stored",
            metadata: ["since": "\(since.components.seconds) s", "error": "\(error.code)"])
        case .nothing: break
        }
        try await Task.sleep(for: pause.next())
      }
    }
  }
}
