import Crypto
import Foundation

/// How a stanza's body holds the file key: ChaCha20-Poly1305 with a zero nonce, under a key that is used once.
enum AgeFileKey {
  /// A key of 16 bytes and its tag. Checked before decryption, so that no body can be opened by several keys.
  static let wrappedSize = 32
  private static let nonce = [UInt8](repeating: 0, count: 12)

  static func wrap(_ fileKey: SymmetricKey, with key: SymmetricKey) throws -> [UInt8] {
    let sealed = try fileKey.withUnsafeBytes {
      try ChaChaPoly.seal($0, using: key, nonce: ChaChaPoly.Nonce(data: nonce))
    }
    return Array(sealed.ciphertext + sealed.tag)
  }

  static func unwrap(_ body: [UInt8], with key: SymmetricKey) -> SymmetricKey? {
    guard let box = try? ChaChaPoly.SealedBox(combined: nonce + body),
      let fileKey = try? ChaChaPoly.open(box, using: key)
    else { return nil }
    return SymmetricKey(data: fileKey)
  }
}
