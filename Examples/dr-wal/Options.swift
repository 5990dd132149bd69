import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import ExampleSupport
import Foundation

/// What both commands need.
struct Options: ParsableArguments {
  @Option(
    help: "The configuration file (JSON): repository, component, recipients, identityFile. Default: $DR_WAL_CONFIG.")
  var config: String?

  @Option(help: "The cluster's system identifier. Default: as in global/pg_control of the data folder.")
  var systemIdentifier: String?

  @Option(parsing: .unconditional, help: "Seconds after which the command gives up.")
  var timeLimit = 300

  func validate() throws {
    guard timeLimit > 0 else { throw ValidationError("the time limit must be more than 0 seconds") }
  }

  /// Opens the archive of the cluster that a WAL path belongs to.
  func archive(
    for path: String, probing: S3Configuration.Probing = .everything
  ) async throws -> WALArchive {
    guard let file = config ?? ProcessInfo.processInfo.environment["DR_WAL_CONFIG"] else {
      throw DRError(
        .invalidConfiguration, "no configuration file was named", advice: "set DR_WAL_CONFIG, or give --config")
    }
    let configuration = try RepositoryConfiguration(file: file)
    return try WALArchive(
      tier: try await configuration.tier(creating: false, probing: probing), component: configuration.component,
      systemIdentifier: try systemIdentifier ?? controlFile(for: path),
      encoding: try configuration.encoding(), decoding: try configuration.decoding())
  }

  /// The server runs its commands in the data folder, with paths below it: `pg_wal/000000010000000000000003`.
  private func controlFile(for path: String) throws -> String {
    let folder = (path as NSString).deletingLastPathComponent
    let data = (folder as NSString).deletingLastPathComponent
    let file = (data.isEmpty ? "." : data) + "/global/pg_control"
    guard let bytes = FileManager.default.contents(atPath: file) else {
      throw DRError(
        .invalidConfiguration, "the cluster's control file cannot be read",
        advice: "run it in the data folder, as the server does, or give --system-identifier", object: file)
    }
    return try bytes.withUnsafeBytes { try ControlFile.systemIdentifier($0, object: file) }
  }

  /// Ends the process when the limit is reached, whatever it waits for: a dead network file system answers to no
  /// cancellation.
  func startWatchdog(_ codes: ExitCodes) {
    let limit = timeLimit
    Thread.detachNewThread {
      Thread.sleep(forTimeInterval: TimeInterval(limit))
      FileHandle.standardError.write(Data("dr-wal: error: [timed-out] gave up after \(limit) seconds\n".utf8))
      _exit(codes.timedOut)
    }
  }
}
