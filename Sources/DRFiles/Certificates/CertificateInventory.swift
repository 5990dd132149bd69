import DRCore
import Foundation
import NIOCore
import SwiftASN1
import X509

/// Certificates and private keys that a walk through a tree comes by: pure.
///
/// PEM (RFC 7468) with any text around it, several in a file, and DER in files that are named for it. Of private keys only the
/// public half is kept.
struct CertificateInventory: Sendable {
  private struct Found: Sendable {
    var facts: CertificateFacts
    var publicKey: [UInt8]
  }

  private struct Key: Sendable {
    var path: [UInt8]
    var publicKey: [UInt8]
  }

  private static let most = 1000
  private var certificates: [Found] = []
  private var keys: [Key] = []
  private(set) var unreadable: [String] = []
  /// Certificates beyond the first so many.
  private(set) var uncounted = 0

  /// - Returns: Whether the file may hold a certificate or a key.
  @discardableResult
  mutating func scan(_ path: [UInt8], _ content: UnsafeRawBufferPointer) -> Bool {
    if SecretScanner.position(of: [UInt8]("-----BEGIN ".utf8), in: content, from: 0) != nil {
      scan(path, pem: String(decoding: content, as: UTF8.self))
      return true
    }
    if content.count > 128, content[0] == 0x30, (0x81...0x83).contains(content[1]),
      CertificateInventory.isNamedForDER(path)
    {
      do {
        try add(try Certificate(derEncoded: Array(content)), path, 1)
      } catch {
        unreadable.append(FileName.text(path))
      }
      return true
    }
    return false
  }

  private mutating func scan(_ path: [UInt8], pem text: String) {
    guard let documents = try? PEMDocument.parseMultiple(pemString: text) else {
      if text.contains("-----BEGIN CERTIFICATE-----") { unreadable.append(FileName.text(path)) }
      return
    }
    var number = 0
    for document in documents {
      switch document.discriminator {
      case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
        number += 1
        do {
          try add(try Certificate(derEncoded: document.derBytes), path, number)
        } catch {
          unreadable.append(FileName.text(path))
        }
      case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
        // One of a kind that is not known here, or encrypted within, says nothing.
        guard let key = try? Certificate.PrivateKey(pemDocument: document) else { continue }
        keys.append(Key(path: path, publicKey: Array(key.publicKey.subjectPublicKeyInfoBytes)))
      default: continue
      }
    }
  }

  private mutating func add(_ certificate: Certificate, _ path: [UInt8], _ number: Int) throws {
    guard certificates.count < CertificateInventory.most else {
      uncounted += 1
      return
    }
    var serializer = DER.Serializer()
    try certificate.serialize(into: &serializer)
    let names = try certificate.extensions.subjectAlternativeNames?.compactMap(CertificateInventory.text) ?? []
    var isAuthority = false
    if case .isCertificateAuthority = try certificate.extensions.basicConstraints { isAuthority = true }
    let facts = CertificateFacts(
      path: FileName.text(path), number: number, subject: certificate.subject.description,
      issuer: certificate.issuer.description, names: names,
      serial: certificate.serialNumber.bytes.map { String(format: "%02x", $0) }.joined(),
      validFrom: certificate.notValidBefore, validUntil: certificate.notValidAfter,
      sha256: StreamDigest.hex(ByteBuffer(bytes: serializer.serializedBytes)), isAuthority: isAuthority)
    certificates.append(Found(facts: facts, publicKey: Array(certificate.publicKey.subjectPublicKeyInfoBytes)))
  }

  /// Each certificate with its key: one that fits, wherever it lies; else the one that by its name belongs to it, which does not
  /// fit then.
  func facts() -> [CertificateFacts] {
    certificates.map { found in
      var facts = found.facts
      let folder = FileName.parent([UInt8](facts.path.utf8))
      let fitting = keys.filter { $0.publicKey == found.publicKey }
      if let key = fitting.first(where: { FileName.parent($0.path) == folder }) ?? fitting.first {
        facts.key = FileName.text(key.path)
        facts.keyMatches = true
      } else if facts.number == 1, let key = keys.first(where: { Self.belongs($0.path, to: facts.path) }) {
        facts.key = FileName.text(key.path)
        facts.keyMatches = false
      }
      return facts
    }
  }

  /// `tls.key` to `tls.crt`, and certbot's `privkey.pem` to `cert.pem` and `fullchain.pem`.
  private static func belongs(_ key: [UInt8], to certificate: String) -> Bool {
    let certificate = [UInt8](certificate.utf8)
    guard FileName.parent(key) == FileName.parent(certificate) else { return false }
    func stem(_ path: [UInt8]) -> [UInt8] {
      let name = FileName.last(path)
      return name.lastIndex(of: UInt8(ascii: ".")).map { [UInt8](name[..<$0]) } ?? name
    }
    if stem(key) == stem(certificate) { return true }
    let ofCertbot = ["cert", "fullchain"].map { [UInt8]($0.utf8) }
    return stem(key) == [UInt8]("privkey".utf8) && ofCertbot.contains(stem(certificate))
  }

  private static func isNamedForDER(_ path: [UInt8]) -> Bool {
    let name = String(decoding: FileName.last(path), as: UTF8.self).lowercased()
    return [".der", ".cer", ".crt"].contains { name.hasSuffix($0) }
  }

  private static func text(_ name: GeneralName) -> String? {
    switch name {
    case .dnsName(let name): name
    case .rfc822Name(let name): name
    case .uniformResourceIdentifier(let name): name
    case .ipAddress(let bytes) where bytes.bytes.count == 4: bytes.bytes.map { "\($0)" }.joined(separator: ".")
    case .ipAddress(let bytes): bytes.bytes.map { String(format: "%02x", $0) }.joined()
    default: nil
    }
  }
}
