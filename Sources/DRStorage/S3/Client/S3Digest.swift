import Crypto
import DRCore
import NIOCore

import struct Foundation.Data

/// Digests of what lies in several buffers, as S3 writes them.
enum S3Digest {
  static func sha256(_ buffers: [ByteBuffer]) -> String {
    var digest = StreamDigest(.sha256)
    for buffer in buffers { digest.update(buffer) }
    return digest.hex()
  }

  static func md5(_ buffers: [ByteBuffer]) -> String {
    var digest = StreamDigest(.md5)
    for buffer in buffers { digest.update(buffer) }
    return digest.hex()
  }

  static func base64(hex: String) -> String { Data(Hex.bytes(hex) ?? []).base64EncodedString() }

  /// What S3 gives as the checksum, or the entity tag, of an object in parts: the digest of the parts' digests.
  static func composite(_ digests: [String], _ algorithm: StreamDigest.Algorithm) -> String {
    let all = ByteBuffer(bytes: digests.flatMap { Hex.bytes($0) ?? [] })
    return StreamDigest.hex(all, algorithm)
  }
}
