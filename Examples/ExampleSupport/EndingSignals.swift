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
  let running = MutableBox<Task<Result, any Error>?>(nil)
  var sources: [any DispatchSourceSignal] = []
  for number in [SIGINT, SIGTERM] {
    // What listens takes the place of this, on Linux by a handler of its own.
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number)
    source.setEventHandler {
      let isFirst = received.withLock { received in
        defer { received = received ?? number }
        return received == nil
      }
      guard isFirst else { _exit(128 + number) }
      running.value?.cancel()
    }
    // One that comes while work goes on and nobody listens yet is lost, and whoever sent it waits in vain.
    await withCheckedContinuation { (registered: CheckedContinuation<Void, Never>) in
      source.setRegistrationHandler { registered.resume() }
      source.resume()
    }
    sources.append(source)
  }
  let task = Task { try await work() }
  running.withLock { $0 = task }
  if received.value != nil { task.cancel() }
  defer { for source in sources { source.cancel() } }
  do {
    return try await task.value
  } catch {
    guard let number = received.value else { throw error }
    let name = number == SIGINT ? "SIGINT" : "SIGTERM"
    FileHandle.standardError.write(Data("ended by \(name): \(outcome())\n".utf8))
    throw ExitCode(128 + number)
  }
}
