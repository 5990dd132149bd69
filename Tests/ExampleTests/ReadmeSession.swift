import DRCore
import DRPostgres
import DRRabbitMQ
import DRSandbox
import DRTestSupport
import Foundation
import Logging
import NIOCore

/// Runs the shell blocks of a README as one person would: in order, in one shell, in an empty working folder, with our
/// programs on the path and a throw-away PostgreSQL that libpq's environment points to.
enum ReadmeSession {
  /// Sources each block in turn and stops at the first command that fails. `make` only looks whether its targets are
  /// there: the README's test command would run this test again.
  private static let script = """
    make() { command make --dry-run --directory "$README_ROOT" "$@" >/dev/null; }
    trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
    set -o errexit -o pipefail
    for block in "$@"; do
      echo "--- README.md, the block at line ${block##*-}" >&2
      source "$block"
    done
    """

  /// - Returns: The status of the first command that failed, or 0, and what the session wrote. It starts with the line
  ///   of each block that was run.
  static func run(_ blocks: [Readme.Block], limit: Duration) async throws -> (status: Int32, said: String) {
    try await withTemporaryFolder { folder in
      try await PostgresSandbox.withSandbox(logger: Logger(label: "readme")) { server in
        let programs = try install(into: folder, server.installation)
        let files = try blocks.map { block in
          let path = "\(folder)/block-\(block.line)"
          try (block.commands + "\n").write(toFile: path, atomically: true, encoding: .utf8)
          return path
        }
        let home = "\(folder)/home"
        // What a reader has in the clone.
        try FileManager.default.createDirectory(atPath: "\(home)/Examples", withIntermediateDirectories: true)
        try FileManager.default.copyItem(
          atPath: "\(Readme.root)/Examples/scenarios", toPath: "\(home)/Examples/scenarios")
        // The restored server is started by who restored it, and it refuses root.
        var command = ["bash", "-c", script, "bash"] + files
        if let user = server.user {
          try user.own(folder)
          command =
            ["setpriv", "--reuid=\(user.userID)", "--regid=\(user.groupID)", "--clear-groups", "--"] + command
        }
        let settings = server.settings
        let store = try await S3TestServer.shared(.swift)
        let bucket = try await store.withBucket { $0 }
        let session = command
        let result = try await withBrokers(blocks, home: home, user: server.user) { brokers in
          try await runCommand(
            "/usr/bin/env", session,
            environment: [
              "PATH": programs, "HOME": home, "TMPDIR": "/tmp", "README_ROOT": Readme.root,
              "PGHOST": settings.host ?? "", "PGPORT": settings.port.map { "\($0)" } ?? "",
              "PGUSER": settings.user ?? "", "PGDATABASE": settings.database ?? "", "BUCKET": bucket,
              "AWS_ENDPOINT_URL": store.endpoint, "AWS_ACCESS_KEY_ID": store.credentials.accessKeyID,
              "AWS_SECRET_ACCESS_KEY": store.credentials.secretAccessKey,
            ].merging(brokers, uniquingKeysWith: { $1 }), workingDirectory: home, timeLimit: limit)
        }
        let left = processes(in: folder)
        let said = result.error + String(decoding: result.output, as: UTF8.self)
        return (result.status, left.isEmpty ? said : said + "\nleft running: \(left.joined(separator: "\n"))")
      }
    }
  }

  /// Starts the brokers that the blocks speak of: one to protect, and one to restore to.
  private static func withBrokers<Result>(
    _ blocks: [Readme.Block], home: String, user: ServerUser?, _ body: ([String: String]) async throws -> Result
  ) async throws -> Result {
    guard blocks.contains(where: { $0.commands.contains("dr-rabbitmq") }) else { return try await body([:]) }
    let logger = Logger(label: "readme")
    return try await RabbitMQSandbox.withSandbox(logger: logger) { broker in
      return try await RabbitMQSandbox.withSandbox(logger: logger) { empty in
        let password = "\(home)/new-password"
        try empty.settings.password.write(toFile: password, atomically: true, encoding: .utf8)
        try user?.own(password)
        return try await body([
          "RABBITMQ_BROKER": "127.0.0.1:\(broker.settings.port)",
          "RABBITMQ_MANAGEMENT_PORT": "\(broker.settings.managementPort)", "RABBITMQ_USER": broker.settings.user,
          "RABBITMQ_PASSWORD": broker.settings.password, "NEW_BROKER": "127.0.0.1:\(empty.settings.port)",
          "NEW_MANAGEMENT_PORT": "\(empty.settings.managementPort)", "NEW_PASSWORD_FILE": password,
        ])
      }
    }
  }

  /// Copies our programs to where the session's user can read them. Gives the session's path.
  private static func install(into folder: String, _ postgres: PostgresInstallation) throws -> String {
    let bin = "\(folder)/bin"
    try FileManager.default.createDirectory(atPath: bin, withIntermediateDirectories: false)
    let programs = [
      "dr-backup", "dr-drill", "dr-failover", "dr-files", "dr-plan", "dr-postgres", "dr-rabbitmq", "dr-redis",
      "dr-repository", "dr-restore", "dr-status", "dr-tier", "dr-tier-check", "dr-verify",
      "dr-wal",
    ]
    for program in programs {
      let built = Bundle.main.bundleURL.appending(path: program).path
      let other = "\(Readme.root)/.build/release/\(program)"
      let source = FileManager.default.isExecutableFile(atPath: built) ? built : other
      try FileManager.default.copyItem(atPath: source, toPath: "\(bin)/\(program)")
    }
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    return "\(bin):\(postgres.binFolder):\(path)"
  }

  /// What the session has left running in its folder, which is then ended. Seen by working folder, for a server is at
  /// home in its data folder whatever its arguments say.
  private static func processes(in folder: String) -> [String] {
    let all = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }
    let left = all.filter { process in
      let place = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/cwd")) ?? ""
      return place.hasPrefix(folder)
    }
    let names = left.map { process in
      (try? String(contentsOfFile: "/proc/\(process)/cmdline", encoding: .utf8))?.replacing("\0", with: " ") ?? "?"
    }
    for process in left { kill(process, SIGKILL) }
    return names
  }
}
