import DRCore
import DRSandbox
import Foundation

/// The programs of an installed RabbitMQ server.
struct RabbitMQInstallation: Sendable, Hashable {
  /// The folder of the server's own scripts: Debian's wrappers beside them change the user and the folder.
  let scripts: String
  /// Erlang's port mapper.
  let epmd: String

  /// Finds the newest installed server.
  ///
  /// - Throws: ``DRError`` with `programFailed` naming the package to install.
  static func find() throws -> RabbitMQInstallation {
    var candidates: [String] = []
    for parent in ["/usr/lib/rabbitmq/lib", "/opt/homebrew/opt/rabbitmq", "/usr/local/opt/rabbitmq"] {
      let versions = ((try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? [])
        .filter { $0.hasPrefix("rabbitmq_server-") }
        .sorted { $0.compare($1, options: .numeric) == .orderedDescending }
      candidates += versions.map { "\(parent)/\($0)/sbin" } + ["\(parent)/sbin"]
    }
    let isProgram = FileManager.default.isExecutableFile(atPath:)
    guard let scripts = candidates.first(where: { isProgram("\($0)/rabbitmq-server") }) else {
      throw DRError(
        .programFailed, "no RabbitMQ server is installed here",
        advice: "apt-get install rabbitmq-server, or brew install rabbitmq")
    }
    let path = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/epmd" }
    guard
      let epmd = (["/usr/bin/epmd", "/opt/homebrew/bin/epmd", "/usr/local/bin/epmd"] + path).first(where: isProgram)
    else {
      throw DRError(
        .programFailed, "Erlang's epmd is not installed here", advice: "apt-get install erlang-base")
    }
    return RabbitMQInstallation(scripts: scripts, epmd: epmd)
  }
}
