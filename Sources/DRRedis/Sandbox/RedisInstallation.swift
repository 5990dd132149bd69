import DRCore
import DRSandbox
import Foundation

/// The programs of one installed Redis server.
package struct RedisInstallation: Sendable, Hashable {
  package let server: String
  /// As the server says it: `7.0.15`.
  package let version: String

  /// Another program of the same installation: `redis-check-rdb`.
  package func path(_ program: String) -> String {
    "\((server as NSString).deletingLastPathComponent)/\(program)"
  }

  /// The last path components that a server's process can have: some installations have one file with several names.
  static let programs = [
    "redis-server", "redis-check-rdb", "redis-check-aof", "valkey-server", "valkey-check-rdb",
  ]

  /// Finds the server on `PATH`, then where packages put it.
  ///
  /// - Throws: ``DRError`` with `programFailed` naming the package to install.
  package static func find() async throws -> RedisInstallation {
    let path = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(
      String.init)
    for folder in path + ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"] {
      let server = "\(folder)/redis-server"
      guard FileManager.default.isExecutableFile(atPath: server) else { continue }
      let answer = try await runProgram(server, ["--version"], limit: .seconds(60))
      guard let version = answer.output.firstMatch(of: /v=([0-9.]+)/) else { continue }
      return RedisInstallation(server: server, version: String(version.1))
    }
    throw DRError(
      .programFailed, "no Redis server is installed here",
      advice: "apt-get install redis-server, or brew install redis")
  }
}
