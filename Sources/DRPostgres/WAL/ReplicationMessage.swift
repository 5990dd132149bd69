import DRCore
package import NIOCore

/// A message of the physical replication stream.
///
/// Source: PostgreSQL documentation, "Streaming Replication Protocol", START_REPLICATION.
package enum ReplicationMessage: Hashable, Sendable {
  /// WAL from a position on; the bytes follow the first ``dataOffset`` of the message.
  case data(start: LSN, serverEnd: LSN, clock: Int64)
  /// Where the server's log ends, and whether it wants an answer at once.
  case keepalive(serverEnd: LSN, clock: Int64, replyRequested: Bool)

  package static let dataOffset = 25

  /// - Throws: ``DRError`` with `malformedData` for anything else.
  package init(_ bytes: UnsafeRawBufferPointer) throws {
    func number(_ offset: Int) -> UInt64 {
      UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    switch (bytes.first, bytes.count) {
    case (UInt8(ascii: "w"), ReplicationMessage.dataOffset...):
      self = .data(start: LSN(number(1)), serverEnd: LSN(number(9)), clock: Int64(bitPattern: number(17)))
    case (UInt8(ascii: "k"), 18):
      self = .keepalive(
        serverEnd: LSN(number(1)), clock: Int64(bitPattern: number(9)), replyRequested: bytes[17] != 0)
    default:
      throw DRError(
        .malformedData,
        "a replication message of kind \(bytes.first.map(String.init) ?? "none") with \(bytes.count) bytes")
    }
  }

  /// The standby's answer: how far it has received, and how far that is durable. Only what is durable may be removed by the
  /// server.
  package static func status(
    received: LSN, durable: LSN, clock: Int64, replyRequested: Bool
  ) -> ByteBuffer {
    var message = ByteBufferAllocator().buffer(capacity: 34)
    message.writeInteger(UInt8(ascii: "r"))
    message.writeInteger(received.rawValue)
    message.writeInteger(durable.rawValue)
    message.writeInteger(UInt64(0))  // Nothing is applied here.
    message.writeInteger(clock)
    message.writeInteger(UInt8(replyRequested ? 1 : 0))
    return message
  }
}
