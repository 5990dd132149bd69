import DRCore
import DRSandbox
import Foundation

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
