import DRCore
import Foundation
import Subprocess

/// What a program wrote and how it ended.
package struct ProgramResult: Sendable {
  /// The exit status; a signal is 128 plus its number, as a shell says it.
  package var status: Int32
  package var output: String
  package var error: String
}

/// Runs a program to its end and collects its text.
///
/// - Parameter environment: Over this process's own, without the variables that steer a database's clients and with
///   `LC_ALL=C`.
/// - Throws: ``DRError``: `programFailed` if it cannot be run or writes more than 16 MiB, `timedOut`;
///   `CancellationError`. In each case it and its children have been ended. A status other than 0 is returned.
package func runProgram(
  _ path: String, _ arguments: [String], as user: ServerUser? = nil, environment: [String: String] = [:],
  limit: Duration
) async throws -> ProgramResult {
  let configuration = programConfiguration(path, arguments, as: user, environment: environment)
  do {
    return try await withTimeLimit(limit, "the program \(path)") {
      let started = StartedPrograms.current
      let note = MutableBox<String?>(nil)
      defer { if let note = note.value { started?.remove(note) } }
      let result = try await Subprocess.run(
        configuration, input: .none, output: .string(limit: 16 << 20), error: .string(limit: 16 << 20)
      ) { execution in
        let path = started?.note(execution.processIdentifier.value)
        note.withLock { $0 = path }
      }
      return ProgramResult(
        status: result.terminationStatus.shellStatus, output: result.standardOutput,
        error: result.standardError)
    }
  } catch let error as SubprocessError {
    try Task.checkCancellation()
    throw DRError(.programFailed, "the program \(path) could not be run", cause: error)
  }
}

/// Runs a program that may write as much as it wants, for days perhaps: of its output and of its errors the last 64 KiB are kept.
///
/// - Parameter environment: As for ``runProgram(_:_:as:environment:limit:)``.
/// - Throws: ``DRError``: `programFailed` if it cannot be run, `timedOut`; `CancellationError`. In each case it and its children have been
///   ended. A status other than 0 is returned.
package func runProgramToItsEnd(
  _ path: String, _ arguments: [String], environment: [String: String] = [:], limit: Duration
) async throws -> ProgramResult {
  let configuration = programConfiguration(path, arguments, as: nil, environment: environment)
  do {
    return try await withTimeLimit(limit, "the program \(path)") {
      let started = StartedPrograms.current
      let note = MutableBox<String?>(nil)
      defer { if let note = note.value { started?.remove(note) } }
      let result = try await Subprocess.run(configuration, input: .none, output: .sequence, error: .sequence) {
        execution in
        let path = started?.note(execution.processIdentifier.value)
        note.withLock { $0 = path }
        async let output = OutputEnd.text(of: execution.standardOutput)
        async let error = OutputEnd.text(of: execution.standardError)
        return try await (output, error)
      }
      return ProgramResult(
        status: result.terminationStatus.shellStatus, output: result.closureResult.0, error: result.closureResult.1)
    }
  } catch let error as SubprocessError {
    try Task.checkCancellation()
    throw DRError(.programFailed, "the program \(path) could not be run", cause: error)
  }
}

/// The last bytes of what a program writes.
private enum OutputEnd {
  static let limit = 64 << 10

  static func text(of output: SubprocessOutputSequence) async throws -> String {
    var bytes: [UInt8] = []
    var isCut = false
    for try await buffer in output {
      buffer.withUnsafeBytes { bytes.append(contentsOf: $0) }
      if bytes.count > limit * 2 {
        bytes.removeFirst(bytes.count - limit)
        isCut = true
      }
    }
    let text = String(decoding: bytes, as: UTF8.self)
    // Its first line is the end of one.
    return isCut ? String(text.drop { $0 != "\n" }.dropFirst()) : text
  }
}

func programConfiguration(
  _ path: String, _ arguments: [String], as user: ServerUser?, environment: [String: String]
) -> Configuration {
  var variables: [Environment.Key: String?] = [:]
  let steering = ["PG", "REDISCLI_", "RABBITMQ_", "ERL_", "GIT_"]
  for name in ProcessInfo.processInfo.environment.keys where steering.contains(where: name.hasPrefix) {
    if let key = Environment.Key(rawValue: name) { variables[key] = .some(nil) }
  }
  for (name, value) in ["LC_ALL": "C"].merging(environment, uniquingKeysWith: { $1 }) {
    if let key = Environment.Key(rawValue: name) { variables[key] = .some(value) }
  }
  var options = PlatformOptions()
  options.createSession = true
  options.teardownSequence = [.gracefulShutDown(toProcessGroup: true, allowedDurationToNextStep: .seconds(5))]
  var (executable, arguments) = (path, arguments)
  if let user {
    // swift-subprocess 1.0 can be told a user, but on Linux it then calls glibc's `setgroups` in a child that glibc has
    // not forked: if a thread was just being started, the child waits for that thread for ever (seen under load). There a
    // program changes the user, in the same process: `setpriv` of util-linux, which every Linux system has.
    #if canImport(Darwin)
      options.userID = user.userID
      options.groupID = user.groupID
      options.supplementaryGroups = []
    #else
      let identity = ["--reuid=\(user.userID)", "--regid=\(user.groupID)", "--clear-groups"]
      (executable, arguments) = ("/usr/bin/setpriv", identity + ["--", path] + arguments)
    #endif
  }
  return Configuration(
    executable: .path(.init(executable)), arguments: Arguments(arguments),
    environment: .inherit.updating(variables),
    // Another user may not be able to enter this process's own folder.
    workingDirectory: user == nil ? nil : .init("/"), platformOptions: options)
}

extension TerminationStatus {
  /// As a shell says it: a signal is 128 plus its number.
  var shellStatus: Int32 {
    switch self {
    case .exited(let code): code
    case .signaled(let signal): 128 + signal
    }
  }
}

/// What `errno` says.
package func lastError() -> String { String(cString: strerror(errno)) }
