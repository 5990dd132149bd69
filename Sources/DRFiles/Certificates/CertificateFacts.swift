public import DRCore
public import Foundation

/// What is known of one X.509 certificate in a tree, and whether its private key is there.
public struct CertificateFacts: Hashable, Sendable, Codable {
  /// The file, relative to the tree's root.
  public var path: String
  /// Its place in the file, from 1: the first of a chain is the server's own.
  public var number: Int
  public var subject: String
  public var issuer: String
  /// Host names, addresses and the like for which it was issued.
  public var names: [String]
  /// In hexadecimal.
  public var serial: String
  public var validFrom: Date
  public var validUntil: Date
  /// Of the whole certificate, as `openssl x509 -fingerprint -sha256` says it, in lower case and without colons.
  public var sha256: String
  /// Whether it may sign other certificates.
  public var isAuthority: Bool
  /// The file of its private key: the one that by its name and place is the key of this certificate, whether it fits or not; if there is
  /// none, one that fits, wherever it lies.
  public var key: String?
  /// Nil: there is no key, or it is encrypted.
  public var keyMatches: Bool?
  /// Whether ``key`` could not be compared, for it is encrypted.
  public var keyIsEncrypted: Bool?
  /// Where ``key`` does not fit, or could not be compared: a key that fits, elsewhere.
  public var fittingKey: String?

  /// Those that a backup of files holds.
  public static func all(of manifest: BackupManifest) -> [CertificateFacts] {
    (manifest.properties["certificates"]?.array ?? []).compactMap { value in
      try? decoder.decode(Self.self, from: JSONEncoder().encode(value))
    }
  }

  /// For people: the file, which of several in it, and the subject.
  public var title: String { path + (number > 1 ? " (\(number))" : "") + ": \(FileName.text(subject.utf8))" }

  /// An authority that vouches for itself, whose key is not here: one of those that are trusted. Bundles of them hold many that
  /// have ended.
  var isTrustAnchor: Bool { isAuthority && subject == issuer && keyMatches != true }

  func json() throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: CertificateFacts.encoder.encode(self))
  }

  private static let encoder = {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    return encoder
  }()
  private static let decoder = {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    return decoder
  }()
}
