import DRCore
import DRPostgres
import ExampleSupport
import Foundation

/// Where a recovery ends, as the commands are told.
enum PostgresTarget {
  static func parse(time: String?, lsn: String?, name: String?, immediate: Bool) throws -> RecoveryTarget {
    if let lsn, LSN(lsn) == nil {
      throw DRError(.invalidConfiguration, "'\(lsn.prefix(40))' is no LSN", advice: "write it as 0/3000148")
    }
    return try RecoveryTarget(immediate: immediate, time: time, position: lsn, name: name)
  }

  static func text(_ target: RecoveryTarget) -> String {
    switch target {
    case .latest: "the end of the WAL"
    case .immediate: "the end of the backup"
    case .time(let date): Timestamp.format(date)
    case .position(let position): "LSN \(position)"
    case .name(let name): "the restore point '\(name)'"
    }
  }
}

enum TimelineArgument {
  static func parse(_ timeline: String?) throws -> RecoverySettings.Timeline? {
    switch timeline {
    case nil: return nil
    case "latest": return .latest
    case "current": return .current
    case .some(let text):
      guard let id = UInt32(text), id > 0 else {
        throw DRError(
          .invalidConfiguration, "'\(text.prefix(20))' is no timeline", advice: "latest, current, or a number")
      }
      return .id(id)
    }
  }
}

/// The `restore_command` of what a command of this program restores: `dr-wal`, which lies beside it.
enum FetchCommand {
  /// - Parameter systemIdentifier: Of the cluster, for a command that is not run in its data folder.
  static func make(config: String, systemIdentifier: String? = nil) -> String {
    let this =
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    let program = (this as NSString).deletingLastPathComponent + "/dr-wal"
    let identity = systemIdentifier.map { " --system-identifier \(shell($0))" } ?? ""
    return "\(shell(program)) fetch --config \(shell(URL(fileURLWithPath: config).path))\(identity) %f %p"
  }

  /// One word for the shell, in which the server replaces nothing.
  private static func shell(_ path: String) -> String {
    "'" + path.replacing("'", with: "'\\''").replacing("%", with: "%%") + "'"
  }
}
