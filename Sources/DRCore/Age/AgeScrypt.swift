import Crypto
import CryptoExtras
import Foundation

/// The file key wrapped for a passphrase.
///
/// Source: <https://c2sp.org/age>, "scrypt recipient stanza".
struct AgeScrypt {
  static let type = "scrypt"
  private static let label = Array("age-encryption.org/v1/scrypt".utf8)

  private let salt: [UInt8]
  private let workFactor: Int
  private let body: [UInt8]

  /// Reads a stanza.
  ///
  /// - Throws: ``DRError`` with `malformedData`.
  init(_ stanza: AgeHeader.Stanza, object: String) throws {
    guard stanza.arguments.count == 2, let salt = AgeBase64.decode(stanza.arguments[0].utf8), salt.count == 16,
      let workFactor = AgeScrypt.decimal(stanza.arguments[1]), stanza.body.count == AgeFileKey.wrappedSize
    else {
      throw DRError(.malformedData, "the age header has a scrypt stanza of a wrong form", object: object)
    }
    self.salt = salt
    self.workFactor = workFactor
    self.body = stanza.body
  }

  /// Wraps a file key. Takes as long as scrypt takes.
  ///
  /// - Throws: What the key derivation throws if the memory cannot be had.
  static func wrap(_ fileKey: SymmetricKey, for passphrase: String, workFactor: Int) throws -> AgeHeader.Stanza {
    let salt = SymmetricKey(size: .bits128).withUnsafeBytes { Array($0) }
    let key = try deriveKey(passphrase, salt: salt, workFactor: workFactor)
    return AgeHeader.Stanza(
      type: type, arguments: [AgeBase64.encode(salt), String(workFactor)],
      body: try AgeFileKey.wrap(fileKey, with: key))
  }

  /// The file key, or nil if it was wrapped for another passphrase. Takes as long as scrypt takes.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` if more work is asked for than the maximum.
  func unwrap(with passphrase: String, maximumWorkFactor: Int, object: String) throws -> SymmetricKey? {
    // Past 2^30 the derivation's memory could not be had on any machine, whatever the caller allows.
    let maximum = min(maximumWorkFactor, 30)
    guard workFactor <= maximum else {
      throw DRError(
        .invalidConfiguration,
        "its passphrase is stretched by a work factor of \(workFactor), above the limit \(maximum)",
        advice: "if you trust where it came from, raise the identity's maximum work factor; each step doubles the cost",
        object: object)
    }
    guard !passphrase.isEmpty else { return nil }
    return AgeFileKey.unwrap(
      body, with: try AgeScrypt.deriveKey(passphrase, salt: salt, workFactor: workFactor))
  }

  private static func deriveKey(_ passphrase: String, salt: [UInt8], workFactor: Int) throws -> SymmetricKey {
    do {
      return try KDF.Scrypt.deriveKey(
        from: Array(passphrase.utf8), salt: label + salt, outputByteCount: 32, rounds: 1 << workFactor, blockSize: 8,
        parallelism: 1)
    } catch {
      throw DRError(
        .invalidConfiguration, "a passphrase could not be stretched by the work factor \(workFactor)",
        advice: "free \((1 << workFactor) >> 10) MiB of memory", cause: error)
    }
  }

  /// Digits only, no leading zero: one text for each number.
  private static func decimal(_ text: String) -> Int? {
    guard text.utf8.allSatisfy({ (48...57).contains($0) }), !text.hasPrefix("0") else { return nil }
    return Int(text)
  }
}
