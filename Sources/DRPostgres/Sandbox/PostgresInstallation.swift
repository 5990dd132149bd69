import DRCore
import Foundation
import Subprocess

/// The programs of one installed version of the PostgreSQL server.
package struct PostgresInstallation: Sendable, Hashable {
  package let binFolder: String
  /// As the server's program says it, for example 15.
  package let majorVersion: Int

  package func path(_ program: String) -> String { "\(binFolder)/\(program)" }

  /// Finds the newest installed server, or the one of a major version.
  ///
  /// Looks where Debian, the PostgreSQL project's RPMs and Homebrew put servers, then where `pg_config` says, then in
  /// `PATH`.
  ///
  /// - Throws: ``DRError`` with `programFailed` naming the package to install.
  package static func find(majorVersion wanted: Int? = nil) async throws -> PostgresInstallation {
    var seen: Set<String> = []
    var found: [PostgresInstallation] = []
    var obstacle: (any Error)?
    for folder in await candidates() where seen.insert(folder).inserted && isComplete(folder) {
      let version: Int?
      do {
        version = try await Self.version(of: folder)
      } catch is CancellationError {
        throw CancellationError()
      } catch {
        obstacle = error
        continue
      }
      guard let version else { continue }
      if wanted.map({ $0 == version }) ?? true { found.append(Self(binFolder: folder, majorVersion: version)) }
    }
    guard let newest = found.max(by: { $0.majorVersion < $1.majorVersion }) else {
      // A server that did not answer is not one that is missing.
      if let obstacle { throw obstacle }
      let name = wanted.map { "-\($0)" } ?? ""
      throw DRError(
        .programFailed, "no PostgreSQL\(wanted.map { " \($0)" } ?? "") server is installed here",
        advice: "apt-get install postgresql\(name), or brew install postgresql\(wanted.map { "@\($0)" } ?? "")")
    }
    return newest
  }

  private static func candidates() async -> [String] {
    var folders: [String] = []
    for (parent, prefix, suffix) in [
      ("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin"), ("/opt/homebrew/opt", "postgresql", "bin"),
      ("/usr/local/opt", "postgresql", "bin"),
    ] {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
      folders += names.filter { $0.hasPrefix(prefix) }.sorted().map { "\(parent)/\($0)/\(suffix)" }
    }
    let path = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
    for folder in path where FileManager.default.isExecutableFile(atPath: "\(folder)/pg_config") {
      if let answer = try? await runProgram("\(folder)/pg_config", ["--bindir"], limit: .seconds(60)) {
        folders.append(answer.output.trimmingCharacters(in: .whitespacesAndNewlines))
      }
    }
    return folders + path
  }

  private static func isComplete(_ folder: String) -> Bool {
    ["postgres", "initdb", "pg_controldata"].allSatisfy {
      FileManager.default.isExecutableFile(atPath: "\(folder)/\($0)")
    }
  }

  /// `postgres (PostgreSQL) 15.18 (Debian …)`, `… 18beta1`.
  private static func version(of folder: String) async throws -> Int? {
    let answer = try await runProgram("\(folder)/postgres", ["--version"], limit: .seconds(60))
    return answer.output.firstMatch(of: /\(PostgreSQL\) (\d+)/).flatMap { Int($0.1) }
  }
}

/// What a program wrote and how it ended.
struct ProgramResult: Sendable {
  /// The exit status; a signal is 128 plus its number, as a shell says it.
  var status: Int32
  var output: String
  var error: String
}

/// Runs a program to its end and collects its text.
///
/// - Parameter environment: Over this process's own, without its `PG…` variables and with `LC_ALL=C`.
/// - Throws: ``DRError``: `programFailed` if it cannot be run or writes more than 16 MiB, `timedOut`;
///   `CancellationError`. In each case it and its children have been ended. A status other than 0 is returned.
func runProgram(
  _ path: String, _ arguments: [String], as user: ServerUser? = nil, environment: [String: String] = [:],
  limit: Duration
) async throws -> ProgramResult {
  let configuration = programConfiguration(path, arguments, as: user, environment: environment)
  do {
    return try await withTimeLimit(limit, "the program \(path)") {
      let result = try await Subprocess.run(
        configuration, output: .string(limit: 16 << 20), error: .string(limit: 16 << 20))
      return ProgramResult(
        status: result.terminationStatus.shellStatus, output: result.standardOutput,
        error: result.standardError)
    }
  } catch let error as SubprocessError {
    try Task.checkCancellation()
    throw DRError(.programFailed, "the program \(path) could not be run", cause: error)
  }
}

func programConfiguration(
  _ path: String, _ arguments: [String], as user: ServerUser?, environment: [String: String]
) -> Configuration {
  var variables: [Environment.Key: String?] = [:]
  for name in ProcessInfo.processInfo.environment.keys where name.hasPrefix("PG") {
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
