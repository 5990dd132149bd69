import Crypto
import DRCore
import Foundation
import NIOCore
import Testing

/// The format to the letter: what the C2SP CCTV suite asks of an implementation, on data forged here.
@Suite("age: format")
struct AgeFormatTests {
  static let plain = Array("forged".utf8)
  let forge = AgeForge()

  private func open(_ header: [UInt8], _ chunks: [UInt8]? = nil, pieces: Int = 1 << 20) throws -> [UInt8] {
    let payload = try chunks ?? forge.chunk(Self.plain, 0, isLast: true)
    return try ageDecrypt(header + payload, with: [AgeIdentity(parsing: AgeForge.identityText)], pieces: pieces)
  }

  private func expect(
    _ code: DRError.Code, _ header: [UInt8], _ name: String, location: SourceLocation = #_sourceLocation
  ) {
    for pieces in [1, 1 << 20] {
      let error = #expect(throws: DRError.self, "\(name)", sourceLocation: location) {
        try open(header, pieces: pieces)
      }
      #expect(error?.code == code, "\(name): \(String(describing: error))", sourceLocation: location)
    }
  }

  @Test("known keys: the specification's identity, and data sealed without our code")
  func knownAnswer() throws {
    let identity = try AgeIdentity(parsing: AgeForge.identityText)
    #expect("\(try #require(identity.recipient))" == AgeForge.recipientText)
    #expect(identity.secretText() == AgeForge.identityText)
    #expect("\(try AgeRecipient(parsing: AgeForge.recipientText))" == AgeForge.recipientText)
    #expect(try open(forge.header(forge.x25519Stanza())) == Self.plain)
  }

  @Test("stanzas of other kinds are skipped, whatever they hold")
  func unknownStanzas() throws {
    let own = try forge.x25519Stanza()
    let line = String(repeating: "A", count: 64)
    let everyCharacter = String(decoding: (0x21...0x7E).map { UInt8($0) }, as: UTF8.self)
    for other in [
      "-> grease\n\n", "-> empty an argument\n\n", "-> long\n\(line)\n\(line)\nAA\n", "-> full\n\(line)\n\n",
      "-> \(everyCharacter) \(everyCharacter)\n\n", "-> x25519 AA\n\n", "-> Scrypt\n\n", "-> --- -->\n\n",
      "-> ssh-ed25519 Xyg06A rH24zuz7XHFc1lRyQmMrekpLrcKrJupohEh/YjvQCxs\nBbtnl6veSZhZmG7uXGQUX0hJbrC8mxDkL3zW06tqlWY\n",
    ] {
      #expect(try open(forge.header(other + own + other)) == Self.plain, "\(other)")
      #expect(try open(forge.header(other + own + other), pieces: 1) == Self.plain, "\(other)")
    }
    let foreign = #expect(throws: DRError.self) { try open(forge.header("-> grease\n\n-> piv-p256 a b\n\n")) }
    #expect(foreign?.code == .noMatchingIdentity)
    #expect(foreign?.message.contains("2 of type grease, piv-p256") == true)
  }

  @Test("headers that break the grammar are refused")
  func grammar() throws {
    let own = try forge.x25519Stanza()
    let line = String(repeating: "A", count: 64)
    for (name, stanzas) in [
      ("no arguments", "->\n\n"), ("an empty argument", "-> a  b\n\n"), ("a space at the end", "-> a \n\n"),
      ("a tab", "-> a\tb\n\n"), ("not ASCII", "-> é\n\n"), ("no space", "->a\n\n"), ("a bad start", "=> a\n\n"),
      ("no body", "-> a\n"), ("no last line", "-> a\n\(line)\n"), ("a long line", "-> a\n\(line)A\n"),
      ("two short lines", "-> a\nAA\nAA\n"), ("padding", "-> a\nAA==\n"), ("a return", "-> a\nAAAA\r\n"),
      ("not canonical", "-> a\nAB\n"), ("one column", "-> a\nAAAAA\n"), ("an unknown character", "-> a\nAA-A\n"),
    ] {
      expect(.malformedData, forge.header(stanzas + own), name)
      expect(.malformedData, forge.header(own + stanzas), "\(name), after ours")
    }
    expect(.malformedData, forge.header(""), "no stanza")
    for (name, ending) in [
      ("no code", "\n"), ("no space", "CODE\n"), ("two spaces", "  CODE\n"), ("a space after", " CODE \n"),
      ("short", " AAAA\n"), ("padded", " CODE=\n"), ("long", " CODEAAAA\n"), ("a return", " CODE\r\n"),
      ("not canonical", " \(String(repeating: "A", count: 42))B\n"),
    ] {
      expect(.malformedData, forge.header(own, ending: ending), "end: \(name)")
    }
    expect(.corruptData, forge.header(own, ending: " \(String(repeating: "A", count: 43))\n"), "another code")
  }

  @Test("versions, and data that is none of ours")
  func versions() throws {
    let own = try forge.x25519Stanza()
    expect(.unsupportedVersion, forge.header(own, version: "age-encryption.org/v2\n"), "v2")
    expect(.unsupportedVersion, forge.header(own, version: "age-encryption.org/v1234\n"), "v1234")
    expect(.malformedData, forge.header(own, version: "age-encryption.org/\n"), "no version")
    expect(.malformedData, forge.header(own, version: "age-encryption.org/v1\r\n"), "line ends of DOS")
    expect(.malformedData, forge.header(own, version: "\nage-encryption.org/v1\n"), "an empty line before")
    expect(.malformedData, [0x28, 0xB5, 0x2F, 0xFD] + [UInt8](repeating: 0, count: 500), "zstd")
    // Refused at the first byte that differs, without waiting for a line feed.
    var decryptor = AgeDecryptor(identities: [], object: "o")
    _ = try decryptor.update(ByteBuffer(string: "age-"))
    #expect(#expect(throws: DRError.self) { try decryptor.update(ByteBuffer(string: "o")) }?.code == .malformedData)
  }

  @Test("X25519 stanzas: their form, and points of low order")
  func x25519() throws {
    let share = [UInt8](repeating: 5, count: 32)
    expect(.malformedData, forge.header(try forge.x25519Stanza(arguments: "")), "no share")
    expect(
      .malformedData, forge.header(try forge.x25519Stanza(arguments: forge.base64(share) + " x")), "one more argument")
    expect(
      .malformedData, forge.header(try forge.x25519Stanza(arguments: forge.base64(share + [0]))), "a long share")
    expect(
      .malformedData, forge.header(try forge.x25519Stanza(arguments: forge.base64(Array(share.dropLast())))),
      "a short one")
    expect(
      .malformedData, forge.header(try forge.x25519Stanza(arguments: String(repeating: "A", count: 42) + "B")),
      "a share that is not canonical")
    // Opened without a look at its size, this one would give a key.
    let longKey = SymmetricKey(data: Array("a file key that is too long".utf8))
    expect(.malformedData, forge.header(try forge.x25519Stanza(key: longKey)), "a long file key")
    expect(.malformedData, forge.header(try forge.x25519Stanza(body: "")), "no body")
    for point in Self.lowOrderPoints {
      expect(.malformedData, forge.header(try forge.x25519Stanza(share: point)), "low order")
    }
    expect(
      .noMatchingIdentity, forge.header(try forge.x25519Stanza(body: String(repeating: "A", count: 43))), "a wrong tag")
  }

  @Test("scrypt stanzas: their form, alone, and bounded")
  func scrypt() throws {
    let salt = forge.base64([UInt8](repeating: 3, count: 16))
    let body = forge.base64([UInt8](repeating: 3, count: 32))
    for factor in [
      "0", "01", "+1", "-1", "1x", "x1", "0x1", " 1", "", "99999999999999999999", "9223372036854775808", "1 1", "1.0",
    ] {
      expect(.malformedData, forge.header("-> scrypt \(salt) \(factor)\n\(body)\n"), "work factor \(factor)")
    }
    expect(.malformedData, forge.header("-> scrypt \(salt)\n\(body)\n"), "no work factor")
    expect(.malformedData, forge.header("-> scrypt \(salt)A 10\n\(body)\n"), "a wrong salt")
    expect(.malformedData, forge.header("-> scrypt \(forge.base64([1, 2])) 10\n\(body)\n"), "a short salt")
    expect(.malformedData, forge.header("-> scrypt \(salt) 10\n\(body)AAAA\n"), "a long file key")
    let good = "-> scrypt \(salt) 10\n\(body)\n"
    let own = try forge.x25519Stanza()
    expect(.malformedData, forge.header(good + own), "beside an X25519 stanza")
    expect(.malformedData, forge.header(own + good), "after an X25519 stanza")
    expect(.malformedData, forge.header(good + good), "twice")
    expect(.malformedData, forge.header("-> grease\n\n" + good), "beside any other")
    expect(.noMatchingIdentity, forge.header(good), "no passphrase given")
    for factor in ["23", "63", "64", "1000000"] {
      let costly = forge.header("-> scrypt \(salt) \(factor)\n\(body)\n")
      for maximum in [22, 64, .max] where maximum < (Int(factor) ?? 0) || (Int(factor) ?? 0) > 30 {
        let error = #expect(throws: DRError.self) {
          try ageDecrypt(costly, with: [.passphrase("p", maximumWorkFactor: maximum)])
        }
        #expect(error?.code == .invalidConfiguration)
      }
    }
    #expect(
      #expect(throws: DRError.self) { try ageDecrypt(forge.header(good), with: [.passphrase("")]) }?.code
        == .noMatchingIdentity)
  }

  @Test("headers without end are bounded")
  func bounds() throws {
    let own = try forge.x25519Stanza()
    let many = String(repeating: "-> g\n\n", count: 1023)
    #expect(try open(forge.header(many + own)) == Self.plain)
    expect(.malformedData, forge.header(many + own + "-> g\n\n"), "1,025 stanzas")
    let line = String(repeating: "A", count: 64) + "\n"
    let body = "-> long\n" + String(repeating: line, count: (1 << 20) / 65)
    #expect(#expect(throws: DRError.self) { try open(forge.header(body)) }?.code == .malformedData)
    let argument = "-> " + String(repeating: "a", count: 1 << 20) + "\n\n"
    #expect(#expect(throws: DRError.self) { try open(forge.header(argument)) }?.code == .malformedData)
  }

  @Test("payloads: the last chunk, and nothing but it, ends one")
  func payloads() throws {
    let header = forge.header(try forge.x25519Stanza())
    let full = [UInt8](repeating: 1, count: 65_536)
    #expect(try open(header, forge.chunk([], 0, isLast: true)).isEmpty)
    let isFull = try open(header, forge.chunk(full, 0, isLast: true)) == full
    #expect(isFull)
    let two = try forge.chunk(full, 0, isLast: false) + forge.chunk([2], 1, isLast: true)
    let isTwo = try open(header, two) == full + [2]
    #expect(isTwo)

    func refuse(_ code: DRError.Code, _ chunks: [[UInt8]], _ name: String) {
      let error = #expect(throws: DRError.self, "\(name)") { try open(header, Array(chunks.joined())) }
      #expect(error?.code == code, "\(name)")
    }
    let first = try forge.chunk(full, 0, isLast: false)
    refuse(.malformedData, [first, try forge.chunk([], 1, isLast: true)], "an empty last chunk")
    refuse(.truncatedData, [first], "no last chunk")
    refuse(.truncatedData, [try forge.chunk([1], 0, isLast: false)], "a short chunk that is not the last")
    refuse(
      .corruptData, [try forge.chunk([1], 0, isLast: false), try forge.chunk([2], 1, isLast: true)], "a short one")
    refuse(
      .malformedData, [try forge.chunk(full, 0, isLast: true), try forge.chunk([2], 1, isLast: true)], "two last ones")
    refuse(.malformedData, [try forge.chunk(full, 0, isLast: true), [1]], "a byte after the end")
    refuse(.truncatedData, [first, Array(repeating: 0, count: 15)], "no whole tag")
    refuse(.truncatedData, [[]], "no chunk")
    #expect(
      #expect(throws: DRError.self) { try ageDecrypt(Array(header.dropLast(3)), with: [.generate()]) }?.code
        == .truncatedData)
  }

  /// The points of order 1, 2, 4 and 8, and the same beyond the field's prime (RFC 7748, section 7; cr.yp.to/ecdh.html).
  static let lowOrderPoints: [[UInt8]] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  ].map { hex in
    stride(from: 0, to: hex.count, by: 2).compactMap { UInt8(hex.dropFirst($0).prefix(2), radix: 16) }
  }
}
