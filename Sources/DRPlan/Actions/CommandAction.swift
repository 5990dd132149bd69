import DRCore
import DRSandbox
import Foundation

/// A program: an infrastructure tool, a restore, a health check. It is done if it ends with 0.
///
/// When the run is cancelled, or the step's limit is over, the program and its children are ended. One whose run was killed by `kill -9` goes on
/// by itself, and the next run begins it again beside it: where that does harm, have it take a lock (`flock`). The programs of this
/// package refuse a destination in use.
///
/// Secrets belong into its environment or into files: arguments are in the process table, and the summary of the action is in reports.
public struct CommandAction: RecoveryAction {
  /// The program, by an absolute path or a name on `PATH`, and its arguments.
  public var command: [String]
  public var environment: [String: String]

  public init(_ command: [String], environment: [String: String] = [:]) {
    self.command = command
    self.environment = environment
  }

  public var summary: String { command.joined(separator: " ") }

  /// Makes sure that there is such a program, without running it.
  ///
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public func check() throws { _ = try path() }

  private func path() throws -> String {
    guard let name = command.first, !name.isEmpty else {
      throw DRError(.invalidConfiguration, "a step has a command without a program")
    }
    return try Self.find(name)
  }

  public func perform() async throws -> String {
    let path = try path()
    let name = command[0]
    // All of this process's environment, where a database's clients find their passwords. The step has a limit of its own.
    let said = try await runProgramToItsEnd(
      path, Array(command.dropFirst()),
      environment: ProcessInfo.processInfo.environment.merging(environment) { $1 }, limit: .seconds(30 * 86_400))
    let lines = (said.status == 0 ? said.output : said.error + said.output).split(separator: "\n")
    // Of one that failed, what it gives as the reason, and not what it says behind it.
    let reason =
      said.status == 0
      ? nil
      : lines.last { line in
        ["error: ", "Error: ", "failure "].contains { line.hasPrefix($0) }
      }
    let last =
      (reason ?? lines.last { !$0.allSatisfy(\.isWhitespace) }).map {
        $0.count > 1000 ? "\($0.prefix(1000))…" : String($0)
      } ?? ""
    // As a shell says it: there is no such program, or it cannot be run; or a signal has ended it, which is no answer of its own.
    guard said.status < 128 else { throw InterruptedProgram(name: name, signal: said.status - 128) }
    guard said.status < 126 else {
      throw DRError(
        .invalidConfiguration, "\(name) could not be run: \(last)", advice: "see what it wrote", object: name)
    }
    guard said.status == 0 else {
      throw DRError(
        .programFailed, "\(name) ended with \(said.status): \(last)", advice: "see what it wrote", object: name)
    }
    return last.isEmpty ? "ended with 0" : last
  }

  private static func find(_ name: String) throws -> String {
    if name.contains("/") {
      guard FileManager.default.isExecutableFile(atPath: name) else {
        throw DRError(.invalidConfiguration, "there is no program '\(name)' that can be run", object: name)
      }
      return name
    }
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
    guard
      let found = folders.map({ "\($0)/\(name)" }).first(where: { FileManager.default.isExecutableFile(atPath: $0) })
    else {
      throw DRError(.invalidConfiguration, "there is no program '\(name)'", advice: "give its path", object: name)
    }
    return found
  }
}

/// A program that was ended before it could say how it went.
private struct InterruptedProgram: Error, CustomStringConvertible {
  var name: String
  var signal: Int32

  var description: String { "\(name) was ended by signal \(signal)" }
}
