import Crypto
public import NIOCore

/// A digest of a stream, fed buffer by buffer.
public struct StreamDigest: Sendable {
  public enum Algorithm: Sendable {
    case sha256
    /// Only where a peer demands it: MD5 proves nothing against an attacker.
    case md5
  }

  private enum State: Sendable {
    case sha256(SHA256)
    case md5(Insecure.MD5)
  }

  private var state: State

  public init(_ algorithm: Algorithm = .sha256) {
    switch algorithm {
    case .sha256: state = .sha256(SHA256())
    case .md5: state = .md5(Insecure.MD5())
    }
  }

  /// Adds the readable bytes of a buffer.
  public mutating func update(_ buffer: ByteBuffer) {
    buffer.withUnsafeReadableBytes { update($0) }
  }

  /// Adds bytes.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    switch state {
    case .sha256(var hasher):
      hasher.update(bufferPointer: bytes)
      state = .sha256(hasher)
    case .md5(var hasher):
      hasher.update(bufferPointer: bytes)
      state = .md5(hasher)
    }
  }

  /// The digest of everything so far, in lower-case hexadecimal.
  public func hex() -> String {
    switch state {
    case .sha256(let hasher): StreamDigest.hex(hasher.finalize())
    case .md5(let hasher): StreamDigest.hex(hasher.finalize())
    }
  }

  /// The digest of one buffer, in lower-case hexadecimal.
  public static func hex(_ buffer: ByteBuffer, _ algorithm: Algorithm = .sha256) -> String {
    var digest = StreamDigest(algorithm)
    digest.update(buffer)
    return digest.hex()
  }

  static func hex(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }
}
