import DRCore
import Foundation
import Synchronization

/// A program that a test starts, stops, lets go on and kills. It ends at the latest with the temporary folder in which its output is
/// kept (``withTemporaryFolder(isolation:_:)``), also where the test fails.
public final class ChildProcess: Sendable {
  private let process: Process
  public let processID: Int32
  private let output: String
  private let exit: Task<Int32, Never>

  /// Where the programs of this package are that the tests were built with.
  public static func program(_ name: String) -> String {
    let beside = Bundle.main.bundleURL.appending(path: name).path
    if FileManager.default.isExecutableFile(atPath: beside) { return beside }
    return URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: ".build/release/\(name)").path
  }

  /// - Parameter output: A file for what it writes to standard output and standard error.
  /// - Throws: ``DRError`` with `programFailed`.
  public init(_ program: String, _ arguments: [String], environment: [String: String] = [:], output: String) throws {
    let process = Process()
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    _ = FileManager.default.createFile(atPath: output, contents: nil, attributes: [.posixPermissions: 0o600])
    guard let file = FileHandle(forWritingAtPath: output) else {
      throw DRError(.programFailed, "the output of \(program) cannot be kept", object: output)
    }
    process.standardOutput = file
    process.standardError = file
    process.standardInput = FileHandle.nullDevice
    let (ended, ending) = AsyncStream.makeStream(of: Int32.self)
    process.terminationHandler = { process in
      ending.yield(process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus)
      ending.finish()
      ChildProcess.running.withLock { $0[process.processIdentifier] = nil }
    }
    do {
      try process.run()
    } catch {
      throw DRError(.programFailed, "\(program) could not be started", advice: "build it first", cause: error)
    }
    processID = process.processIdentifier
    ChildProcess.running.withLock { [processID] in $0[processID] = output }
    // It may have ended before it was noted.
    if !process.isRunning { ChildProcess.running.withLock { [processID] in $0[processID] = nil } }
    self.process = process
    self.output = output
    exit = Task {
      for await status in ended { return status }
      return -1
    }
  }

  /// By process, where its output is kept.
  private static let running = Mutex<[Int32: String]>([:])

  /// Kills those that are still there and keep their output below a folder.
  static func endAll(below folder: String) {
    running.withLock { running in
      for (process, output) in running where output.hasPrefix(folder + "/") {
        // A stopped one dies of it too.
        kill(process, SIGKILL)
        running[process] = nil
      }
    }
  }

  /// Sends a signal to it alone.
  public func signal(_ number: Int32) { kill(processID, number) }

  /// Waits for its end. Gives its exit status, or 128 plus the signal.
  ///
  /// - Throws: ``DRError`` with `timedOut`; it is killed then.
  public func wait(limit: Duration = .seconds(60)) async throws -> Int32 {
    try await withTimeLimit(limit, "process \(processID)") {
      try await withTaskCancellationHandler {
        let status = await self.exit.value
        try Task.checkCancellation()
        return status
      } onCancel: {
        // A wait that is given up ends with the process.
        kill(self.processID, SIGCONT)
        kill(self.processID, SIGKILL)
      }
    }
  }

  /// What it has written so far.
  public var said: String { (try? String(contentsOfFile: output, encoding: .utf8)) ?? "" }
}
