import DRCore
package import NIOCore

/// A stretch of the stream that arrived at one moment: whole commands, never a part of a transaction.
package struct ChangeBatch: Hashable, Sendable {
  /// Bytes of the stream before it.
  package var start: Int64
  /// When its last byte arrived here: milliseconds since 1970, rounded up.
  package var arrival: Int64
  /// The database that its first command works on.
  package var database: Int
  /// Whether its commands were made at any time before it came; nil: they were made just then.
  package var delay: Delay?
  /// The bytes, as the server sent them.
  package var bytes: ByteBuffer

  package var end: Int64 { start + Int64(bytes.readableBytes) }
  package var catchesUp: Bool { delay != nil }

  /// What is known of commands that waited at the server: for a connection, behind a data set that was sent, or while the
  /// receiver stood still.
  package enum Delay: Hashable, Sendable {
    /// The first that waited, since a moment, in milliseconds since 1970; nil: since the batch before, or the snapshot.
    case begins(since: Int64?)
    /// Waited together with the batch before.
    case goesOn
  }
}

/// How a segment of the change log is written: an append-only file of Redis, with the server's own bytes between notes.
///
///     #DR1 history=<40 hex> offset=<bytes before>[ first]\r\n                  once, first
///     #TS:<seconds since 1970>\r\n                                             when the second changes
///     #DR offset=<bytes before> at=<ms> database=<n> bytes=<count>[<delay>]\r\n  before each batch
///     *3\r\n$3\r\nSET\r\n…                                                     the batch, byte for byte
///
/// Redis skips lines that begin with `#` in an append-only file, and `redis-check-aof --truncate-to-timestamp` knows
/// `#TS:`. So `zstd -d` gives what both take, and what is between the notes is what a replica has to receive, to the byte.
/// A delay is ` late`, of the first batch of those that had waited at the server: since the batch before, or as in
/// ` since=<ms> late`; and ` still late` of the others. `first` marks a segment with which the log was begun anew, at a
/// snapshot: what is missing before it was never received.
package enum ChangeSegmentFormat {
  static func header(_ position: ReplicationPosition, beginsAnew: Bool) -> String {
    "#DR1 history=\(position.history) offset=\(position.offset)\(beginsAnew ? " first" : "")\r\n"
  }

  /// Whether the log was begun anew with this segment.
  package static func beginsAnew(_ segment: ByteBuffer) -> Bool {
    var rest = segment
    return takeLine(&rest)?.split(separator: " ").last == "first"
  }

  static func second(_ milliseconds: Int64) -> String { "#TS:\(milliseconds / 1000)\r\n" }

  static func batch(start: Int64, arrival: Int64, database: Int, count: Int, delay: ChangeBatch.Delay?) -> String {
    let mark =
      switch delay {
      case nil: ""
      case .begins(nil): " late"
      case .begins(let since?): " since=\(since) late"
      case .goesOn: " still late"
      }
    return "#DR offset=\(start) at=\(arrival) database=\(database) bytes=\(count)\(mark)\r\n"
  }

  /// Reads a segment.
  ///
  /// - Throws: ``DRError``: `malformedData`, `unsupportedVersion`, naming the object and the place in it.
  package static func read(_ segment: ByteBuffer, object: String) throws -> [ChangeBatch] {
    var rest = segment
    var batches: [ChangeBatch] = []
    var position: Int64?
    func malformed(_ what: String) -> DRError {
      DRError(
        .malformedData, "the segment is broken at byte \(segment.readableBytes - rest.readableBytes): \(what)",
        advice: "take it from another tier, or restore to before it", object: object)
    }
    while rest.readableBytes > 0 {
      guard let line = takeLine(&rest) else { throw malformed("no note where one belongs") }
      let fields = line.split(separator: " ").map(String.init)
      switch fields.first {
      case .some(let word) where word.hasPrefix("#TS:"): continue
      case "#DR1":
        guard position == nil, let offset = number("offset=", fields) else { throw malformed("a header") }
        position = offset
      case .some(let word) where word.hasPrefix("#DR") && word.count > 3:
        throw DRError(
          .unsupportedVersion, "the segment was written by a later version: \(word.prefix(12))",
          advice: "use that version", object: object)
      case "#DR":
        guard let start = number("offset=", fields), let arrival = number("at=", fields),
          let database = number("database=", fields).flatMap({ Int(exactly: $0) }),
          let count = number("bytes=", fields), count > 0, count <= rest.readableBytes,
          let bytes = rest.readSlice(length: Int(count))
        else { throw malformed("a note of a batch") }
        guard start == position else { throw malformed("offset \(start) after \(position ?? -1)") }
        position = start + count
        batches.append(
          ChangeBatch(
            start: start, arrival: arrival, database: database, delay: delay(fields), bytes: bytes))
      default: throw malformed("'\(line.prefix(20))'")
      }
    }
    return batches
  }

  private static func delay(_ fields: [String]) -> ChangeBatch.Delay? {
    guard fields.last == "late" else { return nil }
    return fields.dropLast().last == "still" ? .goesOn : .begins(since: number("since=", fields))
  }

  private static func takeLine(_ rest: inout ByteBuffer) -> String? {
    let view = rest.readableBytesView.prefix(1024)
    guard view.first == UInt8(ascii: "#"), let end = view.firstIndex(of: 10),
      var line = rest.readString(length: end - view.startIndex + 1), line.hasSuffix("\r\n")
    else { return nil }
    line.removeLast()
    return line
  }

  private static func number(_ name: String, _ fields: [String]) -> Int64? {
    fields.first { $0.hasPrefix(name) }.flatMap { Int64($0.dropFirst(name.count)) }.flatMap { $0 >= 0 ? $0 : nil }
  }
}
