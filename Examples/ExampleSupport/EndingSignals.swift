import ArgumentParser
import DRCore
import Dispatch
import Foundation

/// Runs work that SIGTERM and SIGINT cancel, so that it ends in good order: what it made goes, and the other side is told.
/// A second signal ends the process at once.
///
/// - Parameter outcome: What is so once a signal has ended the work, in a few words: one line on standard error.
/// - Throws: What the work throws; once a signal has ended it, an `ExitCode` of 128 and the signal, as a shell has it.
public func endingInGoodOrder<Result: Sendable>(
  saying outcome: @autoclosure () -> String, _ work: @escaping @Sendable () async throws -> Result
) async throws -> Result {
  let received = MutableBox<Int32?>(nil)
  let running = Task { try await work() }
  let sources = [SIGINT, SIGTERM].map { number in
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number)
    source.setEventHandler {
      let isFirst = received.withLock { received in
        defer { received = received ?? number }
        return received == nil
      }
      guard isFirst else { _exit(128 + number) }
      running.cancel()
    }
    source.resume()
    return source
  }
  defer { for source in sources { source.cancel() } }
  do {
    return try await running.value
  } catch {
    guard let number = received.value else { throw error }
    let name = number == SIGINT ? "SIGINT" : "SIGTERM"
    FileHandle.standardError.write(Data("ended by \(name): \(outcome())\n".utf8))
    throw ExitCode(128 + number)
  }
}
