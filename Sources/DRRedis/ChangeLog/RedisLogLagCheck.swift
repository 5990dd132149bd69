public import DRCore
import Foundation
public import Logging

/// Does anybody follow a server into its change log, and how far is the log behind it?
public struct RedisLogLagCheck: Verifier {
  public var archive: RedisLogArchive
  public var server: RedisConnectionSettings
  /// How old the last stored change may be while the server has made more: the plan's recovery point objective.
  public var limit: Duration

  public init(archive: RedisLogArchive, server: RedisConnectionSettings, limit: Duration = .seconds(60)) {
    self.archive = archive
    self.server = server
    self.limit = limit
  }

  /// Nothing where there is no change log.
  ///
  /// - Throws: ``DRError`` if the server cannot be reached; as the tier's `list`.
  public func verify(logger: Logger) async throws -> [Finding] {
    let lines = try await archive.lines()
    guard lines.contains(where: { !$0.segments.isEmpty }) else { return [] }
    let answer = try await RedisConnection.withConnection(server, logger: logger) {
      try await $0.send(["INFO", "replication"])
    }
    guard let info = RedisInfo.readable(answer) else {
      return [finding(.warning, "the server could not be asked how far it is", "let this user do +info")]
    }
    return [judge(lines, info, now: Date())]
  }

  private static let remedy = "see whether dr-redis receive runs, and its log"

  private func judge(_ lines: [ChangeLine], _ info: RedisInfo, now: Date) -> Finding {
    let made = info.integer("master_repl_offset") ?? 0
    let own = lines.flatMap(\.segments).filter { segment in
      guard segment.end <= made else { return false }
      if segment.history == info["master_replid"] { return true }
      return segment.history == info["master_replid2"] && segment.end < info.integer("second_repl_offset") ?? 0
    }
    guard let last = own.max(by: { $0.end < $1.end }) else {
      if lines.flatMap(\.segments).contains(where: { $0.history == info["master_replid2"] }) {
        return finding(
          .failure,
          "the server took over at offset \(info["second_repl_offset"] ?? "?"), and the change log does not follow it yet",
          "run this again in some seconds; if it stays so, see whether dr-redis receive is told of the Sentinels (--sentinel), and its log"
        )
      }
      return finding(
        .failure,
        "the change log is not of this server: nothing in it is of history \(info["master_replid"] ?? "unknown")",
        "see whether this is the server that is meant; \(Self.remedy)")
    }
    let behind = made - last.end
    let replicas = info.integer("connected_slaves") ?? 0
    let age = last.modified.map { max(0, now.timeIntervalSince($0)) }
    let evidence =
      "\(behind) bytes behind the server, the last change was stored "
      + (age.map { "\(Int($0)) s ago" } ?? "at an unknown time") + ", \(replicas) replicas are connected"
    let isLate = behind > 0 && (age ?? .infinity) > limit / .seconds(1)
    return finding(replicas == 0 || isLate ? .warning : .passed, evidence, Self.remedy)
  }

  private func finding(_ severity: Finding.Severity, _ evidence: String, _ advice: String) -> Finding {
    Finding(
      "change-log-lag", severity, subject: "\(server)", evidence: evidence, advice: severity == .passed ? nil : advice)
  }
}
