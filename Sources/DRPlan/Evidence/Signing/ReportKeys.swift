import Crypto
import DRCore
import Foundation
import NIOCore

/// The secret half of an Ed25519 key pair, with which reports are signed: PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it.
///
/// It comes from a file or from the environment: an argument would be in the process table.
public struct ReportSigningKey: Sendable {
  private let key: Curve25519.Signing.PrivateKey

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`. No part of the text is in it.
  public init(pem: String) throws {
    guard !pem.contains("ENCRYPTED PRIVATE KEY") else {
      throw DRError(
        .invalidConfiguration, "the signing key is encrypted with a passphrase",
        advice:
          "decrypt it where it is used: openssl pkey -in KEY -out KEY.plain, in a file that only its reader can read")
    }
    let der = try PEM.decode(pem, "PRIVATE KEY", "the signing key", "openssl genpkey -algorithm ed25519 makes one")
    // RFC 8410: version, the algorithm, and the seed within two octet strings.
    let head: [UInt8] = [
      0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ]
    guard der.count == head.count + 32, der.starts(with: head),
      let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: der.dropFirst(head.count))
    else {
      throw DRError(
        .invalidConfiguration, "the signing key is no Ed25519 key",
        advice: "openssl genpkey -algorithm ed25519 makes one")
    }
    self.key = key
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`, also for a file that others can read.
  public init(file: String) throws {
    var status = stat()
    guard stat(file, &status) == 0 else {
      throw DRError(
        .invalidConfiguration, "the file of the signing key cannot be read: \(String(cString: strerror(errno)))",
        advice: "see that it is there, who owns it, and its mode", object: file)
    }
    guard status.st_mode & 0o077 == 0 else {
      throw DRError(
        .invalidConfiguration, "others can read the signing key: whoever has it can sign any report",
        advice: "chmod 600 it, and make another one if others were on this host", object: file)
    }
    do {
      try self.init(pem: PEM.read(file, "the signing key"))
    } catch var error as DRError {
      error.object = file
      throw error
    }
  }

  /// - Parameter name: Of the variable that holds the PEM.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public init(environment name: String) throws {
    guard let pem = ProcessInfo.processInfo.environment[name], !pem.isEmpty else {
      throw DRError(.invalidConfiguration, "there is no signing key in the environment's \(name)", object: name)
    }
    try self.init(pem: pem)
  }

  public var verifying: ReportVerifyingKey { ReportVerifyingKey(key.publicKey) }

  func signature(of bytes: Data) throws -> Data { try key.signature(for: bytes) }
}

/// The public half: SPKI in PEM, as `openssl pkey -pubout` writes it. Whoever verifies has it from elsewhere: a report that brings its own
/// key proves nothing.
public struct ReportVerifyingKey: Sendable {
  private static let head: [UInt8] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00]

  private let key: Curve25519.Signing.PublicKey

  init(_ key: Curve25519.Signing.PublicKey) { self.key = key }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public init(pem: String) throws {
    let make = "openssl pkey -in KEY -pubout writes it"
    guard !pem.contains("PRIVATE KEY") else {
      throw DRError(
        .invalidConfiguration, "this is a secret key, where its public half belongs", advice: "keep it apart; \(make)")
    }
    let der = try PEM.decode(pem, "PUBLIC KEY", "the public key", make)
    guard der.count == Self.head.count + 32, der.starts(with: Self.head),
      let key = try? Curve25519.Signing.PublicKey(rawRepresentation: der.dropFirst(Self.head.count))
    else { throw DRError(.invalidConfiguration, "the public key is no Ed25519 key", advice: make) }
    self.key = key
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public init(file: String) throws {
    do {
      try self.init(pem: PEM.read(file, "the public key"))
    } catch var error as DRError {
      error.object = file
      throw error
    }
  }

  /// The SHA-256 of its SPKI: `openssl pkey -pubin -in PUB -outform DER | sha256sum`.
  public var id: String { StreamDigest.hex(ByteBuffer(bytes: Self.head + key.rawRepresentation)) }

  public var pem: String {
    "-----BEGIN PUBLIC KEY-----\n\(Data(Self.head + key.rawRepresentation).base64EncodedString())\n-----END PUBLIC KEY-----\n"
  }

  func isValid(_ signature: Data, of bytes: Data) -> Bool { key.isValidSignature(signature, for: bytes) }
}

private enum PEM {
  static func read(_ file: String, _ what: String) throws -> String {
    do {
      let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: file))
      defer { try? handle.close() }
      return String(decoding: try handle.read(upToCount: 1 << 16) ?? Data(), as: UTF8.self)
    } catch {
      throw DRError(
        .invalidConfiguration, "\(what) cannot be read", advice: "see that it is there, who owns it, and its mode",
        cause: error)
    }
  }

  /// The one block of a kind.
  static func decode(_ text: String, _ kind: String, _ what: String, _ advice: String) throws -> Data {
    let (begin, end) = ("-----BEGIN \(kind)-----", "-----END \(kind)-----")
    guard let first = text.firstRange(of: begin), let last = text.firstRange(of: end),
      first.upperBound <= last.lowerBound,
      let der = Data(base64Encoded: text[first.upperBound..<last.lowerBound].filter { !$0.isWhitespace })
    else { throw DRError(.invalidConfiguration, "\(what) is no PEM of a \(kind.lowercased())", advice: advice) }
    return der
  }
}
