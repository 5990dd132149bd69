import Crypto
import Foundation

/// The textual beginning of age data: who can open it, and a code that proves it unchanged.
///
/// Source: <https://c2sp.org/age>, "Header".
struct AgeHeader: Sendable {
  /// One recipient's copy of the file key.
  struct Stanza: Sendable {
    /// The first argument: `X25519`, `scrypt`, or what another implementation writes.
    var type: String
    var arguments: [String]
    var body: [UInt8]
  }

  static let versionLine = "age-encryption.org/v1"
  static let maximumSize = 1 << 20
  static let maximumStanzas = 1024

  var stanzas: [Stanza]
  /// From the first byte to the `---` mark: what ``code`` authenticates.
  var authenticated: [UInt8]
  var code: [UInt8]
  /// In bytes, up to and with the last line feed.
  var size: Int

  /// Writes a header. Stanza bodies are 32 bytes, as both native kinds have them, so that each is one short line.
  static func write(_ stanzas: [Stanza], fileKey: SymmetricKey) -> [UInt8] {
    var text = versionLine + "\n"
    for stanza in stanzas {
      text += "-> " + ([stanza.type] + stanza.arguments).joined(separator: " ") + "\n"
      text += AgeBase64.encode(stanza.body) + "\n"
    }
    text += "---"
    let code = HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: codeKey(fileKey))
    return Array((text + " " + AgeBase64.encode(code) + "\n").utf8)
  }

  private static func codeKey(_ fileKey: SymmetricKey) -> SymmetricKey {
    HKDF<SHA256>.deriveKey(
      inputKeyMaterial: fileKey, salt: [UInt8](), info: Array("header".utf8), outputByteCount: 32)
  }

  /// Finds the file key.
  ///
  /// With a passphrase this takes as long as scrypt takes: about a second at `age`'s usual work factor.
  ///
  /// - Throws: ``DRError``: `malformedData` for stanzas against the rules, `noMatchingIdentity`, `corruptData` if a key
  ///   was found and the header is not the one that was written with it, `invalidConfiguration` for a work factor above
  ///   the identity's maximum.
  func unwrap(with identities: [AgeIdentity], object: String) throws -> SymmetricKey {
    if stanzas.count > 1, stanzas.contains(where: { $0.type == AgeScrypt.type }) {
      throw DRError(
        .malformedData, "the age header names a passphrase beside other recipients, which the format forbids",
        object: object)
    }
    for stanza in stanzas {
      guard let fileKey = try unwrap(stanza, with: identities, object: object) else { continue }
      let isValid = HMAC<SHA256>.isValidAuthenticationCode(
        code, authenticating: authenticated, using: AgeHeader.codeKey(fileKey))
      guard isValid else {
        throw DRError(
          .corruptData, "the age header was changed after it was written: its authentication code differs",
          advice: "restore from another copy", object: object)
      }
      return fileKey
    }
    throw noMatch(identities.count, object: object)
  }

  private func unwrap(
    _ stanza: Stanza, with identities: [AgeIdentity], object: String
  ) throws -> SymmetricKey? {
    switch stanza.type {
    case AgeX25519.type:
      let wrapped = try AgeX25519(stanza, object: object)
      for case .x25519(let privateKey) in identities.map(\.kind) {
        if let fileKey = try wrapped.unwrap(with: privateKey, object: object) { return fileKey }
      }
    case AgeScrypt.type:
      let wrapped = try AgeScrypt(stanza, object: object)
      for case .scrypt(let passphrase, let maximum) in identities.map(\.kind) {
        if let fileKey = try wrapped.unwrap(with: passphrase, maximumWorkFactor: maximum, object: object) {
          return fileKey
        }
      }
    default: break
    }
    return nil
  }

  private func noMatch(_ count: Int, object: String) -> DRError {
    var types: [String] = []
    for stanza in stanzas {
      let type = String(stanza.type.prefix(40))
      if types.count < 8, !types.contains(type) { types.append(type) }
    }
    let found = "\(stanzas.count) of type \(types.joined(separator: ", "))"
    let advice =
      types == [AgeScrypt.type]
      ? "give the passphrase that it was encrypted with"
      : "give the identity file of one of the recipients that the manifest lists; if that opens others of the same time, this one is damaged: take it from another copy, or compare its SHA-256 with the stored one that its manifest or its name states"
    let message =
      count == 0
      ? "it is encrypted, and no identity was given"
      : "none of the \(count) given identities opens it, or its header is damaged"
    return DRError(
      .noMatchingIdentity, "\(message) (recipients in its header: \(found))", advice: advice, object: object)
  }
}
