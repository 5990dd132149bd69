import DRCore
import Foundation
import Subprocess

/// A server that this process started and will reap.
package final class ServerProcess: Sendable {
  package let processID: Int32
  private let end = MutableBox<String?>(nil)

  private init(processID: Int32) { self.processID = processID }

  /// How it ended; nil while it runs.
  package var howItEnded: String? { end.value }

  /// Starts a program that goes on until it is told to stop; what it writes goes to a file.
  ///
  /// - Throws: ``DRError`` with `programFailed`.
  package static func start(
    _ path: String, _ arguments: [String], as user: ServerUser?, environment: [String: String], logFile: String
  ) async throws -> ServerProcess {
    let log = open(logFile, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard log >= 0 else { throw DRError(.notWritable, "no log can be written: \(lastError())", object: logFile) }
    var configuration = programConfiguration(path, arguments, as: user, environment: environment)
    configuration.platformOptions.teardownSequence = []
    return try await withCheckedThrowingContinuation { continuation in
      let started = MutableBox<ServerProcess?>(nil)
      // Not a child task: the server outlives the task that starts it.
      Task { [configuration] in
        let result: String
        do {
          let output = FileDescriptorOutput.fileDescriptor(.init(rawValue: log), closeAfterSpawningProcess: true)
          let status = try await Subprocess.run(
            configuration, input: .none, output: output, error: .combinedWithOutput
          ) { execution in
            let process = ServerProcess(processID: execution.processIdentifier.value)
            started.withLock { $0 = process }
            continuation.resume(returning: process)
          }.terminationStatus
          result = "\(status)"
        } catch {
          guard started.value != nil else {
            return continuation.resume(
              throwing: DRError(.programFailed, "the server \(path) could not be started", cause: error))
          }
          result = "it was lost from sight: \(error)"
        }
        started.value?.end.withLock { $0 = result }
      }
    }
  }

  /// Waits for its end.
  ///
  /// - Returns: Whether it ended within the limit.
  package func waitForEnd(limit: Duration) async -> Bool {
    let deadline = ContinuousClock.now + limit
    while end.value == nil {
      guard ContinuousClock.now < deadline else { return false }
      // Also when the task is cancelled: then this sleeps in small steps that the limit bounds.
      await Task.detached { try? await Task.sleep(for: .milliseconds(10)) }.value
    }
    return true
  }

  /// Kills every process of a sandbox's server, and what these started, as a power cut would.
  ///
  /// - Parameters:
  ///   - programs: The last components of the paths of the programs that the server consists of.
  ///   - mark: A text that the command line or the title of each of its processes holds, and no other process's.
  ///   - first: Killed before the others, so that it starts nothing new.
  ///   - started: Killed whether it is marked or not.
  /// - Throws: ``DRError`` with `timedOut` if some are still there after ten seconds.
  package static func killAll(
    _ programs: [String], marked mark: String, first: Int32? = nil, started: ServerProcess? = nil
  ) throws {
    // It may not even have become a server yet, with a title to be found by.
    if let started, started.howItEnded == nil { kill(started.processID, SIGKILL) }
    let deadline = ContinuousClock.now + .seconds(10)
    var processes = ProcessTable.processes(of: programs, marked: mark)
    if let first, processes.contains(first) { kill(first, SIGKILL) }
    while !processes.isEmpty {
      for process in processes {
        // One that leads a session of its own takes with it the programs that it runs.
        kill(-process, SIGKILL)
        kill(process, SIGKILL)
      }
      guard ContinuousClock.now < deadline else {
        throw DRError(
          .timedOut, "server processes did not end when killed: \(processes.map(String.init).joined(separator: ", "))",
          object: mark)
      }
      usleep(10_000)
      processes = ProcessTable.processes(of: programs, marked: mark)
    }
  }
}
