import Crypto
import DRCore
import Foundation
import NIOCore
import SwiftASN1
import Synchronization
import X509

/// A platform's configuration: settings, an environment file, and a certificate with its key, which are replaced now and then as
/// certbot does it, by one symbolic link.
final class ConfigurationTree: Sendable {
  let root: String
  /// When each numbered change was made, in microseconds since 1970.
  private let changes = Mutex<[Int: Int64]>([:])

  init(root: String) { self.root = root }

  var known: [Int: Int64] { changes.withLock { $0 } }

  func make(holdingSecrets: Bool) throws {
    try FileManager.default.createDirectory(atPath: root + "/certs", withIntermediateDirectories: true)
    try write("docker-compose.yml", "services:\n  api:\n    image: platform/api:1.2.3\n")
    try write("nginx.conf", "server { listen 443 ssl; ssl_certificate /etc/certs/live/tls.crt; }\n")
    if holdingSecrets { try write(".env", "DATABASE_PASSWORD=\(UUID().uuidString)\n", mode: 0o600) }
    try change(1, rotating: true, holdingSecrets: holdingSecrets)
  }

  /// Makes the next change: a setting and, sometimes, a new certificate.
  func change(_ number: Int, rotating: Bool, holdingSecrets: Bool) throws {
    let now = Int64((Date().timeIntervalSince1970 * 1_000_000).rounded(.down))
    if rotating { try rotate(number, holdingSecrets: holdingSecrets) }
    try write("state.yml", ConfigurationTree.state(number))
    changes.withLock { $0[number] = now }
  }

  private static func state(_ number: Int) -> String {
    "change: \(number)\nproof: \(StreamDigest.hex(ByteBuffer(string: "change \(number)")))\n"
  }

  /// The number of the change that a restored tree holds; nil: it is none that was made.
  static func number(in root: String) -> Int? {
    guard let text = try? String(contentsOfFile: root + "/state.yml", encoding: .utf8),
      let number = text.split(separator: "\n").first.flatMap({ Int($0.dropFirst("change: ".count)) }),
      text == state(number)
    else { return nil }
    return number
  }

  private func rotate(_ number: Int, holdingSecrets: Bool) throws {
    let folder = "v\(number)"
    try FileManager.default.createDirectory(atPath: "\(root)/certs/\(folder)", withIntermediateDirectories: false)
    let (certificate, key) = try ConfigurationTree.issue()
    try write("certs/\(folder)/tls.crt", certificate)
    if holdingSecrets { try write("certs/\(folder)/tls.key", key, mode: 0o600) }
    let link = root + "/certs/.live"
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: folder)
    guard rename(link, root + "/certs/live") == 0 else {
      throw DRError(.notWritable, "the drill's certificate cannot be replaced", object: link)
    }
  }

  private static func issue() throws -> (certificate: String, key: String) {
    let key = P256.Signing.PrivateKey()
    let name = try DistinguishedName { CommonName("platform.example") }
    let certificate = try Certificate(
      version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: .init(key.publicKey),
      notValidBefore: Date().addingTimeInterval(-3600), notValidAfter: Date().addingTimeInterval(90 * 86_400),
      issuer: name, subject: name, signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions { SubjectAlternativeNames([.dnsName("platform.example")]) },
      issuerPrivateKey: .init(key))
    return (try certificate.serializeAsPEM().pemString + "\n", key.pemRepresentation + "\n")
  }

  /// By one rename, as editors and deployments do it.
  private func write(_ path: String, _ content: String, mode: mode_t = 0o644) throws {
    let new = "\(root)/\((path as NSString).deletingLastPathComponent)/.new-\((path as NSString).lastPathComponent)"
    guard
      FileManager.default.createFile(
        atPath: new, contents: Data(content.utf8), attributes: [.posixPermissions: Int(mode)]),
      rename(new, "\(root)/\(path)") == 0
    else { throw DRError(.notWritable, "a file of the drill's configuration cannot be written", object: path) }
  }
}
