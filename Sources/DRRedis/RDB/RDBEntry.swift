package import NIOCore

/// One key of an RDB file, with its value as the file has it.
package struct RDBEntry: Sendable {
  package var database: Int
  /// The name, decompressed; cut if it is longer than the reader's limit.
  package var key: ByteBuffer
  package var type: RDBType
  /// When it expires, in milliseconds since 1970.
  package var expiry: Int64?
  /// For how many seconds nobody had used it, where the server keeps that.
  package var idle: UInt64?
  /// How often it was used, on the server's logarithmic scale, where the server keeps that.
  package var frequency: UInt8?
  /// The value's bytes, verbatim. Nil: there are more of them than the reader's limit.
  package var value: ByteBuffer?
  /// How many bytes the value has in the file.
  package var valueBytes: Int64
  /// Where the entry starts in the file.
  package var offset: Int64
}

/// What is known of a key before its value was read.
package struct RDBKey: Sendable {
  package var database: Int
  package var key: ByteBuffer
  package var type: RDBType
  package var expiry: Int64?
}
