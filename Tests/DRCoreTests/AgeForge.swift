import Crypto
import DRCore
import Foundation
import NIOCore

/// Writes age data straight from the specification (c2sp.org/age), right or wrong on purpose, without the code under
/// test. Keys are fixed: the specification's example identity is 32 bytes of 0x42.
struct AgeForge {
  static let identityText = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
  static let recipientText = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"

  let fileKey = SymmetricKey(data: Array("a file key of 16".utf8))
  let nonce = [UInt8](repeating: 7, count: 16)

  /// A whole stanza, `-> X25519` to the end of its body.
  func x25519Stanza(
    arguments: String? = nil, share given: [UInt8]? = nil, key: SymmetricKey? = nil, body: String? = nil
  ) throws -> String {
    let identity = try Curve25519.KeyAgreement.PrivateKey(rawRepresentation: [UInt8](repeating: 0x42, count: 32))
    let ephemeral = try Curve25519.KeyAgreement.PrivateKey(rawRepresentation: [UInt8](repeating: 0x17, count: 32))
    let share = given ?? Array(ephemeral.publicKey.rawRepresentation)
    let secret = try identity.sharedSecretFromKeyAgreement(with: .init(rawRepresentation: share))
    let wrapKey = secret.hkdfDerivedSymmetricKey(
      using: SHA256.self, salt: share + identity.publicKey.rawRepresentation,
      sharedInfo: Array("age-encryption.org/v1/X25519".utf8), outputByteCount: 32)
    let wrapped = try (key ?? fileKey).withUnsafeBytes {
      try seal(Array($0), wrapKey, [UInt8](repeating: 0, count: 12))
    }
    return "-> X25519 \(arguments ?? base64(share))\n\(body ?? base64(wrapped))\n"
  }

  /// A header of stanzas, with the authentication code that belongs to it, then the payload's nonce.
  func header(_ stanzas: String, version: String = "age-encryption.org/v1\n", ending: String? = nil) -> [UInt8] {
    let text = version + stanzas + "---"
    let codeKey = HKDF<SHA256>.deriveKey(
      inputKeyMaterial: fileKey, salt: [UInt8](), info: Array("header".utf8), outputByteCount: 32)
    let code = base64(Array(HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: codeKey)))
    return Array((text + (ending?.replacingOccurrences(of: "CODE", with: code) ?? " \(code)\n")).utf8) + nonce
  }

  /// A sealed chunk.
  func chunk(_ plain: [UInt8], _ index: UInt8, isLast: Bool) throws -> [UInt8] {
    let key = HKDF<SHA256>.deriveKey(
      inputKeyMaterial: fileKey, salt: nonce, info: Array("payload".utf8), outputByteCount: 32)
    return try seal(plain, key, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, index, isLast ? 1 : 0])
  }

  func base64(_ bytes: [UInt8]) -> String {
    Data(bytes).base64EncodedString().replacingOccurrences(of: "=", with: "")
  }

  private func seal(_ plain: [UInt8], _ key: SymmetricKey, _ nonce: [UInt8]) throws -> [UInt8] {
    let box = try ChaChaPoly.seal(plain, using: key, nonce: .init(data: nonce))
    return Array(box.ciphertext) + Array(box.tag)
  }
}

/// Encrypts in pieces of a size.
func ageEncrypt(_ plain: [UInt8], to recipients: [AgeRecipient], pieces: Int = 1 << 20) throws -> [UInt8] {
  var encryptor = try AgeEncryptor(recipients: recipients)
  var stored = try encryptor.start()
  for start in stride(from: 0, to: plain.count, by: pieces) {
    stored.writeImmutableBuffer(
      try encryptor.update(ByteBuffer(bytes: plain[start..<min(start + pieces, plain.count)])))
  }
  stored.writeImmutableBuffer(try encryptor.finish())
  return Array(stored.readableBytesView)
}

/// Decrypts in pieces of a size. `released` takes what was given before an error, too.
func ageDecrypt(
  _ stored: [UInt8], with identities: [AgeIdentity], pieces: Int = 1 << 20, released: inout [UInt8]
) throws {
  var decryptor = AgeDecryptor(identities: identities, object: "test/object.age")
  for start in stride(from: 0, to: stored.count, by: pieces) {
    let piece = ByteBuffer(bytes: stored[start..<min(start + pieces, stored.count)])
    released += try decryptor.update(piece).readableBytesView
  }
  released += try decryptor.finish().readableBytesView
}

func ageDecrypt(_ stored: [UInt8], with identities: [AgeIdentity], pieces: Int = 1 << 20) throws -> [UInt8] {
  var plain: [UInt8] = []
  try ageDecrypt(stored, with: identities, pieces: pieces, released: &plain)
  return plain
}

/// The same bytes for the same seed, on every run.
struct SeededBytes: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }

  mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}
