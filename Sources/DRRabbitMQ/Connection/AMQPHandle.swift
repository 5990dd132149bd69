import CRabbitMQ
import DRCore
import NIOCore

/// A connection of librabbitmq with one channel, and its memory. Only its actor touches it.
final class AMQPHandle {
  static let channel: amqp_channel_t = 1
  let connection: OpaquePointer
  /// For what is encoded and decoded outside of frames.
  private var pool = amqp_pool_t()

  init() throws {
    guard let connection = amqp_new_connection() else {
      throw DRError(.sourceFailed, "there is no memory for a connection")
    }
    self.connection = connection
    init_amqp_pool(&pool, 16 << 10)
  }

  deinit {
    amqp_destroy_connection(connection)
    empty_amqp_pool(&pool)
  }

  /// Lends a table in the library's form.
  func withTable<Result>(_ table: AMQPTable, _ body: (amqp_table_t) throws -> Result) throws -> Result {
    guard !table.entries.isEmpty else { return try body(amqp_empty_table) }
    var buffer = ByteBuffer()
    table.encode(into: &buffer)
    defer { recycle_amqp_pool(&pool) }
    return try buffer.withUnsafeMutableReadableBytes { bytes in
      var output = amqp_table_t()
      var offset = 0
      let status = amqp_decode_table(
        amqp_bytes_t(len: bytes.count, bytes: bytes.baseAddress), &pool, &output, &offset)
      guard status == 0 else { throw DRError(.malformedData, "a table cannot be said in AMQP") }
      return try body(output)
    }
  }

  /// Lends a text in the library's form.
  static func withBytes<Result>(_ text: String, _ body: (amqp_bytes_t) throws -> Result) rethrows -> Result {
    var text = text
    return try text.withUTF8 { bytes in
      try body(amqp_bytes_t(len: bytes.count, bytes: UnsafeMutableRawPointer(mutating: bytes.baseAddress)))
    }
  }

  /// Decodes properties; what they point to lives until the next call, and no longer than the bytes.
  func decode(properties: UnsafeRawBufferPointer) throws -> UnsafeMutablePointer<amqp_basic_properties_t> {
    recycle_amqp_pool(&pool)
    var decoded: UnsafeMutableRawPointer?
    let status = amqp_decode_properties(
      UInt16(AMQP_BASIC_CLASS), &pool,
      amqp_bytes_t(len: properties.count, bytes: UnsafeMutableRawPointer(mutating: properties.baseAddress)), &decoded)
    guard status == 0, let decoded else {
      throw DRError(.malformedData, "the properties of a message are not AMQP")
    }
    return decoded.assumingMemoryBound(to: amqp_basic_properties_t.self)
  }

  /// Lends properties in their encoded form.
  func withEncoded(
    _ properties: UnsafeMutablePointer<amqp_basic_properties_t>, capacity: Int,
    _ body: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    try withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 1) { bytes in
      let length = amqp_encode_properties(
        UInt16(AMQP_BASIC_CLASS), properties, amqp_bytes_t(len: bytes.count, bytes: bytes.baseAddress))
      guard length >= 0 else { throw DRError(.malformedData, "the properties of a message cannot be said in AMQP") }
      try body(UnsafeRawBufferPointer(rebasing: bytes[..<Int(length)]))
    }
  }

  /// Keeps a text as long as the properties that were decoded last.
  func keep(_ text: String) -> amqp_bytes_t {
    var kept = amqp_bytes_t()
    let bytes = Array(text.utf8)
    amqp_pool_alloc_bytes(&pool, bytes.count, &kept)
    guard let place = kept.bytes else { return amqp_empty_bytes }
    place.copyMemory(from: bytes, byteCount: bytes.count)
    return kept
  }
}
