import DRCore
import Foundation

/// A program while it runs: what it says, and how it ends. `dr-postgres`, unless another is named.
final class RunningProgram {
  private let process = Process()
  private let log: String

  /// - Parameters:
  ///   - folder: Where its output is kept while it runs.
  ///   - environment: Over this process's own.
  ///   - input: Nil: there is none.
  init(
    _ arguments: [String], of program: String = ProgramPlace.program, in folder: String,
    environment: [String: String] = [:], input: Pipe? = nil
  ) throws {
    log = "\(folder)/program-\(UUID().uuidString).log"
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    let handle = FileHandle(forWritingAtPath: log)
    process.standardOutput = handle
    process.standardError = handle
    process.standardInput = input ?? FileHandle.nullDevice
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    try process.run()
  }

  deinit {
    guard process.isRunning else { return }
    send(SIGKILL)
    process.waitUntilExit()
  }

  /// What it has written so far, to standard output and standard error.
  var said: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

  var processIdentifier: Int32 { process.processIdentifier }

  func send(_ signal: Int32) { _ = Foundation.kill(process.processIdentifier, signal) }

  /// Waits until it ends.
  func end(within limit: Duration) async throws -> (status: Int32, said: String) {
    try await eventually("the program to end", within: limit) { !process.isRunning }
    let status = process.terminationStatus
    return (process.terminationReason == .uncaughtSignal ? 128 + status : status, said)
  }
}

/// Asks until the answer is yes. The limit is only there so that nothing hangs.
func eventually(_ what: String, within limit: Duration = .seconds(60), _ isSo: () async throws -> Bool) async throws {
  let deadline = ContinuousClock.now + limit
  while try await !isSo() {
    guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited in vain for: \(what)") }
    try await Task.sleep(for: .milliseconds(20))
  }
}
