/// Who can open an encrypted artifact: an X25519 public key (`age1…`) or a passphrase.
///
/// Format: age-encryption.org/v1.
public struct AgeRecipient: Hashable, Sendable, CustomStringConvertible {
  public var description: String { "" }
}
