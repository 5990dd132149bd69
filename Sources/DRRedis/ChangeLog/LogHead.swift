import DRStorage
import NIOCore

/// A note beside the segments of a line that everything of it through a position is durable. Without it, a log whose last
/// segments were lost looks like one that ended there.
///
///     redis/aof/<line>/head-<offset>-<replication ID>.partial.zst[.age]
///
/// It is stored once in a while, when nothing waits to be stored before that position, and says nothing that is not so at any
/// moment after: what was durable is replaced only by what covers it. So a receiver that is killed leaves a note of too
/// little, never of too much. The name is the note, so that nothing has to be decrypted for it.
enum LogHead {
  /// What the names begin with.
  static let prefix = "head-"

  static func name(_ position: ReplicationPosition) -> String {
    "\(prefix)\(ChangeSegment.digits(position.offset))-\(position.history)"
  }

  /// Nil for what is no note.
  static func position(_ name: String) -> ReplicationPosition? {
    let parts = name.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 3, "\(parts[0])-" == prefix, parts[1].utf8.count == 20, let offset = Int64(parts[1]),
      offset >= 0, ReplicationPosition.isHistory(parts[2])
    else { return nil }
    return ReplicationPosition(history: parts[2], offset: offset)
  }
}

extension RedisLogArchive {
  /// Notes that everything of a line through a position is durable, in place of earlier notes.
  ///
  /// - Throws: As the tier's `put`, `list` and `delete`.
  func putHead(_ position: ReplicationPosition, line: String) async throws {
    let store = try store(line)
    // Skipped by who makes an append-only file of all that is there.
    try await store.putPartial(
      LogHead.name(position), ByteBuffer(string: "#DRHEAD \(position)\r\n"), encoding: encoding)
    for note in try await store.segments(startingWith: LogHead.prefix) {
      guard let earlier = LogHead.position(note.name), earlier.offset < position.offset else { continue }
      try await store.deletePartial(note.name)
    }
  }
}
