import Crypto
import Foundation

/// What opens an encrypted artifact: an X25519 secret key (`AGE-SECRET-KEY-1…`) or a passphrase.
///
/// Format: [age-encryption.org/v1](https://c2sp.org/age). ``description`` and reflection show no secret.
public struct AgeIdentity: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  enum Kind {
    case x25519(Curve25519.KeyAgreement.PrivateKey)
    case scrypt(passphrase: String, maximumWorkFactor: Int)
  }

  let kind: Kind

  private static let prefix = "AGE-SECRET-KEY-"

  private init(kind: Kind) { self.kind = kind }

  /// Reads a secret key in its Bech32 form, `AGE-SECRET-KEY-1…`. White space around it is ignored.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`, which does not repeat the text.
  public init(parsing text: String) throws {
    let text = text.trimmingCharacters(in: .whitespacesAndNewlines)
    if text.hasPrefix("-----BEGIN ") || text.hasPrefix("age-encryption.org/") {
      throw DRError(
        .invalidConfiguration, "an identity is itself encrypted, or is of another kind than age's own",
        advice: "decrypt the identity file first (age -d); SSH keys are not supported: age-keygen makes a key")
    }
    if text.hasPrefix("AGE-PLUGIN-") {
      throw DRError(
        .invalidConfiguration, "identities of age plugins are not supported", advice: "make a key with age-keygen")
    }
    let (prefix, key) = try Bech32.decode(text)
    guard prefix == Self.prefix, key.count == 32,
      let privateKey = try? Curve25519.KeyAgreement.PrivateKey(rawRepresentation: key)
    else {
      throw DRError(
        .invalidConfiguration, "an identity is not an X25519 secret key of age",
        advice: "give a key that starts with \(Self.prefix)1, as age-keygen makes it")
    }
    kind = .x25519(privateKey)
  }

  /// A passphrase.
  ///
  /// - Parameter maximumWorkFactor: Data that asks for more work than this (the base-two logarithm of scrypt's N) is
  ///   refused before any is done, so that hostile data cannot use up time and memory. 22 costs 16 seconds or so and
  ///   4 GiB.
  public static func passphrase(_ passphrase: String, maximumWorkFactor: Int = 22) -> AgeIdentity {
    AgeIdentity(kind: .scrypt(passphrase: passphrase, maximumWorkFactor: maximumWorkFactor))
  }

  /// A new secret key from the system's random source.
  public static func generate() -> AgeIdentity {
    AgeIdentity(kind: .x25519(Curve25519.KeyAgreement.PrivateKey()))
  }

  /// Reads an identity file, as `age-keygen` writes it and `age -i` takes it: one key a line, empty lines and lines that
  /// start with `#`.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`, naming the line by its number and never showing it, or if there
  ///   is no key.
  public static func parseFile(_ text: String) throws -> [AgeIdentity] {
    try AgeKeyFile.parse(text, of: "identity") { try AgeIdentity(parsing: $0) }
  }

  /// Whom to encrypt to, for this identity to open it; nil for a passphrase.
  public var recipient: AgeRecipient? {
    switch kind {
    case .x25519(let key): AgeRecipient(publicKey: Array(key.publicKey.rawRepresentation))
    case .scrypt: nil
    }
  }

  /// **Secret.** The line that an identity file holds for this key, `AGE-SECRET-KEY-1…`; nil for a passphrase, which no
  /// identity file can hold. Write it to a file of mode 0600 only.
  public func secretText() -> String? {
    switch kind {
    case .x25519(let key):
      Bech32.encode(prefix: Self.prefix.lowercased(), Array(key.rawRepresentation)).uppercased()
    case .scrypt: nil
    }
  }

  /// `identity of age1…`, or `passphrase`. Shows no secret.
  public var description: String { recipient.map { "identity of \($0)" } ?? "passphrase" }

  public var debugDescription: String { description }

  public var customMirror: Mirror { Mirror(self, children: []) }
}
