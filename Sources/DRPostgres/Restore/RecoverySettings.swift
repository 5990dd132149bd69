package import DRCore
import Foundation

/// What the server is told to do with the restored files when it starts.
public struct RecoverySettings: Hashable, Sendable {
  /// Which timeline to follow.
  public enum Timeline: Hashable, Sendable {
    /// The newest that the archive knows.
    case latest
    /// The one of the backup.
    case current
    case id(UInt32)
  }

  /// What to do at the target.
  public enum Action: String, Hashable, Sendable {
    case promote
    case pause
    case shutdown
  }

  /// The server's `restore_command`, with `%f` and `%p`: how it gets WAL. Nil only for a backup that includes its own.
  /// It must give 1 for a file that is not there, and 126 or more when it cannot tell: the server takes anything up to
  /// 125 for the end of the WAL. `dr-wal fetch` does.
  public var restoreCommand: String?
  /// Nil: `current` for the target `immediate`, else `latest`.
  public var timeline: Timeline?
  public var action: Action
  /// Whether the target itself is still replayed.
  public var inclusive: Bool

  public init(
    restoreCommand: String?, timeline: Timeline? = nil, action: Action = .promote, inclusive: Bool = true
  ) {
    self.restoreCommand = restoreCommand
    self.timeline = timeline
    self.action = action
    self.inclusive = inclusive
  }

  /// The names of every setting that this writes, or that an earlier recovery may have left.
  static let names: Set<String> = [
    "restore_command", "recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_name",
    "recovery_target_xid", "recovery_target_timeline", "recovery_target_action", "recovery_target_inclusive",
    "recovery_end_command", "archive_cleanup_command", "primary_conninfo", "primary_slot_name",
    "recovery_min_apply_delay", "promote_trigger_file",
  ]

  /// The lines for `postgresql.auto.conf`.
  ///
  /// Source: PostgreSQL documentation, "Archive Recovery" and "Recovery Target".
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for a position that is no LSN, or a value that holds a line break.
  package func lines(for target: RecoveryTarget) throws -> [String] {
    var values: [(String, String)] = []
    if let restoreCommand { values.append(("restore_command", restoreCommand)) }
    var timeline = self.timeline ?? .latest
    switch target {
    case .latest:
      break
    case .immediate:
      values.append(("recovery_target", "immediate"))
      timeline = self.timeline ?? .current
    case .time(let date):
      values.append(("recovery_target_time", Timestamp.postgres(date)))
    case .position(let text):
      guard let lsn = LSN(text) else {
        throw DRError(.invalidConfiguration, "'\(text.prefix(40))' is no LSN", advice: "write it as 0/3000148")
      }
      values.append(("recovery_target_lsn", "\(lsn)"))
    case .name(let name):
      values.append(("recovery_target_name", name))
    }
    values.append(("recovery_target_timeline", timeline.text))
    if target != .latest {
      values.append(("recovery_target_action", action.rawValue))
      if target != .immediate { values.append(("recovery_target_inclusive", inclusive ? "on" : "off")) }
    }
    return try values.map { name, value in
      guard value.allSatisfy({ !$0.isNewline && $0 != "\0" }) else {
        throw DRError(.invalidConfiguration, "the recovery setting \(name) must not hold a line break")
      }
      return "\(name) = '\(value.replacing("'", with: "''").replacing("\\", with: "\\\\"))'"
    }
  }

  /// An existing `postgresql.auto.conf` without what an earlier recovery left in it, and with these lines.
  package static func rewrite(_ existing: String, adding lines: [String]) -> String {
    let kept = existing.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
      let name = line.drop(while: \.isWhitespace).prefix { $0.isLetter || $0 == "_" || $0 == "." }
      return !names.contains(name.lowercased())
    }
    var text = kept.joined(separator: "\n")
    if !text.isEmpty, !text.hasSuffix("\n") { text += "\n" }
    return text + "# Written by the restore: how far this server recovers.\n" + lines.joined(separator: "\n") + "\n"
  }
}

extension RecoverySettings.Timeline {
  fileprivate var text: String {
    switch self {
    case .latest: "latest"
    case .current: "current"
    case .id(let id): "\(id)"
    }
  }
}
