import DRCore
import NIOCore

/// How a dump begins and ends: what is cut short at either side is no dump, whatever its program says.
struct DumpEnds: Sendable {
  let start: String?
  let end: String?

  /// `PGDMP`, PostgreSQL's `pg_backup_archiver.c`. An archive says nowhere that it ends.
  static let custom = DumpEnds(start: "PGDMP", end: nil)
  static let plain = DumpEnds(start: nil, end: "-- PostgreSQL database dump complete")
  static let globals = DumpEnds(start: nil, end: "-- PostgreSQL database cluster dump complete")

  /// The same bytes; at the end it throws ``DRError`` with `truncatedData` unless they begin and end so.
  func checking(_ content: ByteStream, _ object: String) -> ByteStream {
    let state = MutableBox<(head: [UInt8], tail: [UInt8])>(([], []))
    return ByteStream {
      var iterator = content.makeAsyncIterator()
      let buffer = try await iterator.next()
      if let buffer {
        state.withLock { state in
          if state.head.count < 16 { state.head += buffer.readableBytesView.prefix(16) }
          state.tail = Array((state.tail + buffer.readableBytesView.suffix(200)).suffix(200))
        }
        return buffer
      }
      let (head, tail) = state.value
      let ended = String(decoding: tail, as: UTF8.self)
      guard start.map({ head.starts(with: $0.utf8) }) ?? true, end.map({ ended.contains($0) }) ?? true, !head.isEmpty
      else {
        throw DRError(
          .truncatedData, "the dump is cut short: it does not begin or end as one does", advice: "see the server's log",
          object: object)
      }
      return nil
    }
  }
}
