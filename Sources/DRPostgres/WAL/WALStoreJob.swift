import DRCore
import Foundation

/// The one piece that is being stored, beside the stream.
final class WALStoreJob: Sendable {
  let piece: WALPiece
  private let outcome = MutableBox<Result<Date?, any Error>?>(nil)
  private let attempt = WALStoreAttempt()
  private let task: Task<Void, Never>

  init(_ piece: WALPiece, _ journal: WALJournal) {
    self.piece = piece
    let (outcome, attempt) = (outcome, attempt)
    task = Task {
      let result: Result<Date?, any Error>
      do {
        result = .success(try await journal.store(piece, attempt))
      } catch {
        result = .failure(error)
      }
      outcome.withLock { $0 = result }
    }
  }

  /// Nil while it goes on.
  var result: Result<Date?, any Error>? { outcome.value }

  /// Whether the tier has failed to take it.
  var hasFailed: Bool { attempt.hasFailed }

  /// Once more at most, and now.
  func finish() { attempt.isLast = true }

  func cancel() { task.cancel() }
}

/// What who stores a piece and who waits for it tell each other.
final class WALStoreAttempt: Sendable {
  private let state = MutableBox((isLast: false, hasFailed: false))

  var isLast: Bool {
    get { state.value.isLast }
    set { state.withLock { $0.isLast = newValue } }
  }

  var hasFailed: Bool {
    get { state.value.hasFailed }
    set { state.withLock { $0.hasFailed = newValue } }
  }

  /// Pauses, but not before the last attempt.
  func pause(for duration: Duration) async throws {
    let end = ContinuousClock.now + duration
    while ContinuousClock.now < end, !isLast { try await Task.sleep(for: .milliseconds(50)) }
  }
}
