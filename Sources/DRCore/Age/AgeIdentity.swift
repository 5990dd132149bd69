/// What opens an encrypted artifact: an X25519 secret key (`AGE-SECRET-KEY-1…`) or a passphrase.
public struct AgeIdentity: Sendable {
}
