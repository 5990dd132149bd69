import DRCore

/// The size of a WAL segment in bytes: a power of two from 1 MiB to 1 GiB, set by `initdb`.
public struct WALSegmentSize: Hashable, Sendable, CustomStringConvertible {
  public let bytes: Int

  /// 16 MiB, what `initdb` takes unless told otherwise.
  public static let standard = WALSegmentSize(known: 16 << 20)

  init(known: Int) { bytes = known }

  /// - Throws: ``DRError`` with `invalidConfiguration` for a size that no server has.
  public init(_ bytes: Int) throws {
    guard (1 << 20...1 << 30).contains(bytes), bytes & (bytes - 1) == 0 else {
      throw DRError(
        .invalidConfiguration, "\(bytes) bytes cannot be the size of a WAL segment",
        advice: "it is a power of two from 1 MiB to 1 GiB; ask the server: SHOW wal_segment_size")
    }
    self.bytes = bytes
  }

  public var description: String { "\(bytes >> 20) MiB" }

  /// The number of the segment that holds a position.
  package func segment(holding position: LSN) -> UInt64 { position.rawValue / UInt64(bytes) }

  /// The first position of the segment that holds a position.
  package func boundary(before position: LSN) -> LSN { LSN(position.rawValue & ~UInt64(bytes - 1)) }

  /// The number of segments that share the middle eight digits of their names.
  var segmentsPerLog: UInt64 { (1 << 32) / UInt64(bytes) }
}
