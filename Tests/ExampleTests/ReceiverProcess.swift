import DRPostgres
import DRTestSupport
import Foundation
import Testing

/// `dr-postgres receive-wal`, to be killed.
final class ReceiverProcess {
  private let arguments: [String]
  private let log: String
  private var process: Process?

  init(folder: String, server: PostgresConnectionSettings) {
    arguments = [
      "receive-wal", "--config", folder + "/dr.json", "--slot", "dr_kill", "--partial-interval", "0.1", "--server",
      Self.conninfo(server),
    ]
    log = folder + "/receiver.log"
    _ = FileManager.default.createFile(atPath: log, contents: nil)
  }

  deinit { kill() }

  static func built(_ program: String) -> String {
    let beside = Bundle.main.bundleURL.appending(path: program).path
    return FileManager.default.isExecutableFile(atPath: beside) ? beside : "\(Readme.root)/.build/release/\(program)"
  }

  static func conninfo(_ server: PostgresConnectionSettings) -> String {
    "host=\(server.host ?? "") port=\(server.port ?? 0) user=\(server.user ?? "") dbname=postgres"
  }

  /// What it has written so far.
  var said: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

  /// Makes the slot, and says from where on it keeps WAL.
  func prepare() async throws -> LSN {
    let result = try await runCommand(Self.built("dr-postgres"), arguments + ["--prepare-only"])
    let said = String(decoding: result.output, as: UTF8.self)
    let match = said.firstMatch(of: /keeps WAL from ([0-9A-F]+\/[0-9A-F]+)/)
    return try #require(match.flatMap { LSN($0.1) }, "\(said)\(result.error)")
  }

  var isRunning: Bool { process?.isRunning ?? false }

  func start() throws {
    let process = Process()
    process.executableURL = URL(filePath: Self.built("dr-postgres"))
    process.arguments = arguments
    let handle = FileHandle(forWritingAtPath: log)
    _ = try handle?.seekToEnd()
    process.standardOutput = handle
    process.standardError = handle
    process.standardInput = FileHandle.nullDevice
    try process.run()
    self.process = process
  }

  func kill() {
    guard let process, process.isRunning else { return }
    _ = Foundation.kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }
}
