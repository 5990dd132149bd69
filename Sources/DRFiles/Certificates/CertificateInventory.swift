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
    var path: [UInt8]
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
  private var encryptedKeys: [[UInt8]] = []
  private(set) var unreadable: [String] = []
  /// Certificates beyond the first so many.
  private(set) var uncounted = 0

  /// - Returns: Whether the file may hold a certificate or a key.
  @discardableResult
  mutating func scan(_ path: [UInt8], _ content: UnsafeRawBufferPointer) -> Bool {
    if ByteSearch.position(of: [UInt8]("-----BEGIN ".utf8), in: content, from: 0) != nil {
      scan(path, pem: content)
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

  private mutating func scan(_ path: [UInt8], pem content: UnsafeRawBufferPointer) {
    var number = 0
    for block in PEMBlock.all(in: content) {
      switch block.label {
      case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
        number += 1
        do {
          try add(try Certificate(derEncoded: PEMDocument(pemString: block.text).derBytes), path, number)
        } catch {
          if unreadable.last != FileName.text(path) { unreadable.append(FileName.text(path)) }
        }
      case "ENCRYPTED PRIVATE KEY": encryptedKeys.append(path)
      case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
        if block.isEncrypted {
          encryptedKeys.append(path)
        } else if let key = try? Certificate.PrivateKey(pemDocument: PEMDocument(pemString: block.text)) {
          // One of a kind that is not known here says nothing.
          keys.append(Key(path: path, publicKey: Array(key.publicKey.subjectPublicKeyInfoBytes)))
        }
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
      path: FileName.text(path), number: number, subject: FileName.text(certificate.subject.description.utf8),
      issuer: FileName.text(certificate.issuer.description.utf8), names: names.map { FileName.text($0.utf8) },
      serial: certificate.serialNumber.bytes.map { String(format: "%02x", $0) }.joined(),
      validFrom: certificate.notValidBefore, validUntil: certificate.notValidAfter,
      sha256: StreamDigest.hex(ByteBuffer(bytes: serializer.serializedBytes)), isAuthority: isAuthority)
    certificates.append(
      Found(path: path, facts: facts, publicKey: Array(certificate.publicKey.subjectPublicKeyInfoBytes)))
  }

  /// Each certificate with its key: the one beside it that by its name is its, which fits or not; else one that fits, wherever it lies.
  func facts() -> [CertificateFacts] {
    let keysOfFolders = Dictionary(grouping: keys) { FileName.parent($0.path) }
    let encryptedOfFolders = Dictionary(grouping: encryptedKeys) { FileName.parent($0) }
    return certificates.map { found in
      var facts = found.facts
      let folder = FileName.parent(found.path)
      let fitting = keys.filter { $0.publicKey == found.publicKey }
      let elsewhere = (fitting.first { FileName.parent($0.path) == folder } ?? fitting.first).map {
        FileName.text($0.path)
      }
      let beside = keysOfFolders[folder] ?? []
      let locked = encryptedOfFolders[folder] ?? []
      let own = facts.number == 1 ? ownKey(of: found, beside.map(\.path) + locked) : nil
      guard let own else {
        facts.key = elsewhere
        facts.keyMatches = elsewhere == nil ? nil : true
        return facts
      }
      facts.key = FileName.text(own)
      if fitting.contains(where: { $0.path == own }) {
        facts.keyMatches = true
      } else if beside.contains(where: { $0.path == own }) {
        facts.keyMatches = false
        facts.fittingKey = elsewhere
      } else {
        facts.keyIsEncrypted = true
        facts.fittingKey = elsewhere
      }
      return facts
    }
  }

  /// Of the keys in a certificate's folder, the one that by its name belongs to it: in the same file, of the same stem (`tls.key` to
  /// `tls.crt`), certbot's `privkey.pem` to `cert.pem` and `fullchain.pem`; then `privkey` or `key`, or the only one, unless the
  /// certificate is an authority's by its name, or another certificate there is that key's.
  private func ownKey(of certificate: Found, _ beside: [[UInt8]]) -> [UInt8]? {
    let stem = Self.stem(certificate.path)
    if let key = beside.first(where: { $0 == certificate.path }) { return key }
    if let key = beside.first(where: { Self.stem($0) == stem }) { return key }
    let general = beside.first { ["privkey", "key"].contains(Self.stem($0)) }
    if let general, Self.stem(general) == "privkey", ["cert", "fullchain"].contains(stem) { return general }
    let words = stem.split { !$0.isLetter }
    guard let key = general ?? (Set(beside).count == 1 ? beside[0] : nil),
      !words.contains(where: Self.authorities.contains)
    else { return nil }
    let folder = FileName.parent(certificate.path)
    let isTaken = certificates.contains { other in
      other.path != certificate.path && FileName.parent(other.path) == folder
        && (Self.stem(other.path) == Self.stem(key)
          || keys.contains { $0.path == key && $0.publicKey == other.publicKey })
    }
    return isTaken ? nil : key
  }

  private static let authorities: Set<Substring> = [
    "ca", "cacert", "cacerts", "root", "chain", "bundle", "intermediate", "intermediates", "issuer", "trust",
    "truststore",
  ]

  private static func stem(_ path: [UInt8]) -> String {
    let name = FileName.last(path)
    return String(decoding: name.lastIndex(of: UInt8(ascii: ".")).map { name[..<$0] } ?? name[...], as: UTF8.self)
      .lowercased()
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
