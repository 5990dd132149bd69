import Crypto
import Foundation

/// The file key wrapped for an X25519 public key.
///
/// Source: <https://c2sp.org/age>, "X25519 recipient stanza".
struct AgeX25519 {
  static let type = "X25519"
  private static let info = Array("age-encryption.org/v1/X25519".utf8)

  private let share: [UInt8]
  private let body: [UInt8]

  /// Reads a stanza.
  ///
  /// - Throws: ``DRError`` with `malformedData`.
  init(_ stanza: AgeHeader.Stanza, object: String) throws {
    guard stanza.arguments.count == 1, let share = AgeBase64.decode(stanza.arguments[0].utf8), share.count == 32,
      stanza.body.count == AgeFileKey.wrappedSize
    else {
      throw DRError(.malformedData, "the age header has an X25519 stanza of a wrong form", object: object)
    }
    self.share = share
    self.body = stanza.body
  }

  /// Wraps a file key.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for a point of low order.
  static func wrap(_ fileKey: SymmetricKey, for publicKey: [UInt8]) throws -> AgeHeader.Stanza {
    let ephemeral = Curve25519.KeyAgreement.PrivateKey()
    let share = Array(ephemeral.publicKey.rawRepresentation)
    guard let secret = sharedSecret(ephemeral, publicKey) else {
      throw DRError(.invalidConfiguration, "a recipient is a point of low order")
    }
    let body = try AgeFileKey.wrap(fileKey, with: wrapKey(secret, share: share, publicKey: publicKey))
    return AgeHeader.Stanza(type: type, arguments: [AgeBase64.encode(share)], body: body)
  }

  /// The file key, or nil if it was not wrapped for this identity.
  ///
  /// - Throws: ``DRError`` with `malformedData` for a share of low order.
  func unwrap(with privateKey: Curve25519.KeyAgreement.PrivateKey, object: String) throws -> SymmetricKey? {
    guard let secret = AgeX25519.sharedSecret(privateKey, share) else {
      throw DRError(.malformedData, "the age header has an X25519 share of low order", object: object)
    }
    let publicKey = Array(privateKey.publicKey.rawRepresentation)
    return AgeFileKey.unwrap(body, with: AgeX25519.wrapKey(secret, share: share, publicKey: publicKey))
  }

  /// False for the points of low order, with which any secret key agrees on zero.
  static func isSafe(publicKey: [UInt8]) -> Bool {
    sharedSecret(Curve25519.KeyAgreement.PrivateKey(), publicKey) != nil
  }

  /// Nil for the all-zero secret, which swift-crypto lets pass and the format forbids.
  private static func sharedSecret(
    _ privateKey: Curve25519.KeyAgreement.PrivateKey, _ publicKey: [UInt8]
  ) -> SharedSecret? {
    guard let point = try? Curve25519.KeyAgreement.PublicKey(rawRepresentation: publicKey),
      let secret = try? privateKey.sharedSecretFromKeyAgreement(with: point),
      secret.withUnsafeBytes({ $0.reduce(0, |) }) != 0
    else { return nil }
    return secret
  }

  private static func wrapKey(_ secret: SharedSecret, share: [UInt8], publicKey: [UInt8]) -> SymmetricKey {
    secret.hkdfDerivedSymmetricKey(
      using: SHA256.self, salt: share + publicKey, sharedInfo: info, outputByteCount: 32)
  }
}
