import Crypto
import Foundation
package import NIOCore

/// The key to the encrypted part of age data: 64 KiB chunks, each sealed by ChaCha20-Poly1305 with its number and whether
/// it is the last as nonce, so that none can be left out, moved or added.
///
/// Source: <https://c2sp.org/age>, "Payload".
package struct AgePayload: Sendable {
  /// Bytes of a whole chunk, before and after it is sealed.
  package static let chunkSize = 64 << 10
  package static let storedChunkSize = chunkSize + tagSize
  static let tagSize = 16
  static let nonceSize = 16
  private static let chunkNonceSize = 12

  /// Where the first chunk lies in the stored bytes.
  package let offset: Int64
  /// Named in errors.
  package let object: String
  private let key: SymmetricKey

  init(fileKey: SymmetricKey, nonce: [UInt8], offset: Int64, object: String) {
    self.offset = offset
    self.object = object
    key = HKDF<SHA256>.deriveKey(
      inputKeyMaterial: fileKey, salt: nonce, info: Array("payload".utf8), outputByteCount: 32)
  }

  /// Where a chunk lies in the stored bytes.
  package func storedOffset(ofChunk index: Int64) -> Int64 {
    let (distance, overflow) = index.multipliedReportingOverflow(by: Int64(Self.storedChunkSize))
    return overflow ? .max : offset + distance
  }

  /// Seals a chunk of at most ``chunkSize`` bytes.
  func seal(_ plain: UnsafeRawBufferPointer, index: Int64, isLast: Bool, into output: inout ByteBuffer) throws {
    let nonce = try ChaChaPoly.Nonce(data: Self.chunkNonce(index, isLast))
    // `combined` is nonce, ciphertext, tag in one piece of memory: one copy takes the two that are stored.
    let box = try ChaChaPoly.seal(plain, using: key, nonce: nonce)
    output.writeBytes(box.combined.dropFirst(Self.chunkNonceSize))
  }

  /// Opens a stored chunk. Returns false, and writes nothing, if it is not the one that was sealed in this place.
  func open(_ stored: UnsafeRawBufferPointer, index: Int64, isLast: Bool, into output: inout ByteBuffer) -> Bool {
    guard stored.count >= Self.tagSize else { return false }
    // Built as the `combined` form, which is taken over without another copy.
    var combined = Data(capacity: Self.chunkNonceSize + stored.count)
    combined.append(contentsOf: Self.chunkNonce(index, isLast))
    combined.append(contentsOf: stored)
    guard let box = try? ChaChaPoly.SealedBox(combined: combined), let plain = try? ChaChaPoly.open(box, using: key)
    else { return false }
    output.writeBytes(plain)
    return true
  }

  /// Opens one stored chunk that was fetched by itself.
  ///
  /// - Throws: ``DRError`` with `corruptData` naming the chunk's stored offset.
  package func openChunk(_ stored: ByteBuffer, index: Int64, isLast: Bool) throws -> ByteBuffer {
    var plain = ByteBuffer()
    plain.reserveCapacity(max(0, stored.readableBytes - Self.tagSize))
    guard stored.withUnsafeReadableBytes({ open($0, index: index, isLast: isLast, into: &plain) }) else {
      throw corrupt(chunk: index)
    }
    return plain
  }

  func corrupt(chunk index: Int64, _ addition: String = "") -> DRError {
    DRError(
      .corruptData,
      "chunk \(index) of its age payload, at stored offset \(storedOffset(ofChunk: index)), is not what was written\(addition)",
      advice: "restore from another copy", object: object)
  }

  /// Eleven bytes of number, big-endian, and one that tells the last chunk.
  private static func chunkNonce(_ index: Int64, _ isLast: Bool) -> [UInt8] {
    var nonce = [UInt8](repeating: 0, count: chunkNonceSize)
    for place in 0..<8 { nonce[3 + place] = UInt8(truncatingIfNeeded: index >> Int64(56 - 8 * place)) }
    nonce[11] = isLast ? 1 : 0
    return nonce
  }
}
