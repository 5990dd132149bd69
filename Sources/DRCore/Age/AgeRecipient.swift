import Crypto
import Foundation

/// Who can open an encrypted artifact: an X25519 public key (`age1…`) or a passphrase.
///
/// A public key can only encrypt: the host that makes backups needs no secret. Several public keys may be given, and
/// each alone opens; a passphrase must be the only recipient.
///
/// Format: [age-encryption.org/v1](https://c2sp.org/age). ``description`` and reflection show no passphrase.
public struct AgeRecipient: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  enum Kind: Hashable {
    /// 32 bytes.
    case x25519([UInt8])
    case scrypt(passphrase: String, workFactor: Int)
  }

  /// The factors that a passphrase may be stretched by, as log2 of scrypt's N.
  static let workFactors = 1...22

  let kind: Kind

  init(publicKey: [UInt8]) { kind = .x25519(publicKey) }

  private init(kind: Kind) { self.kind = kind }

  /// Reads a public key in its Bech32 form, `age1…`. White space around it is ignored.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`: mistyped, of a kind that is not supported (SSH keys, plugins,
  ///   post-quantum keys), or a point of low order, to which anything encrypted would be open to all.
  public init(parsing text: String) throws {
    let text = text.trimmingCharacters(in: .whitespacesAndNewlines)
    if text.uppercased().hasPrefix("AGE-SECRET-KEY-") {
      throw DRError(
        .invalidConfiguration, "a secret key was given in place of a recipient",
        advice: "give its public key (age-keygen -y prints it), and keep the secret key off the backup host")
    }
    if text.hasPrefix("ssh-") {
      throw DRError(
        .invalidConfiguration, "SSH keys are not supported as recipients", advice: "make a key with age-keygen")
    }
    let (prefix, key) = try Bech32.decode(text)
    guard prefix == "age", key.count == 32 else {
      throw DRError(
        .invalidConfiguration, "a recipient is not an X25519 public key of age",
        advice: "give a key that starts with age1, as age-keygen makes it")
    }
    guard AgeX25519.isSafe(publicKey: key) else {
      throw DRError(
        .invalidConfiguration, "a recipient is a point of low order: what is encrypted to it is open to everyone",
        advice: "distrust where this key came from")
    }
    kind = .x25519(key)
  }

  /// A passphrase, stretched by scrypt. It must not be empty.
  ///
  /// - Parameter workFactor: The base-two logarithm of scrypt's N, 1 to 22; it is checked when encryption starts. 18,
  ///   the default of `age`, costs about a second of one core and 256 MiB of memory, to encrypt and to decrypt; each
  ///   step up doubles both.
  public static func passphrase(_ passphrase: String, workFactor: Int = 18) -> AgeRecipient {
    AgeRecipient(kind: .scrypt(passphrase: passphrase, workFactor: workFactor))
  }

  /// Reads a file of public keys, as `age -R` takes it: one a line, empty lines and lines that start with `#`.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`, naming the line by its number, or if there is no key.
  public static func parseFile(_ text: String) throws -> [AgeRecipient] {
    try AgeKeyFile.parse(text, of: "recipient") { try AgeRecipient(parsing: $0) }
  }

  /// The public key, or `scrypt` for a passphrase.
  public var description: String {
    switch kind {
    case .x25519(let key): Bech32.encode(prefix: "age", key)
    case .scrypt: "scrypt"
    }
  }

  public var debugDescription: String { description }

  public var customMirror: Mirror { Mirror(self, children: []) }
}
