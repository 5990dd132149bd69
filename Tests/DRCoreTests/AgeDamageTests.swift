import DRCore
import NIOCore
import Testing

/// Whatever happens to stored bytes is noticed, and nothing that was not written is given out.
@Suite("age: damage")
struct AgeDamageTests {
  static let plain = Array("the last ledger entry before the disaster".utf8)

  struct Sealed: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let stored: [UInt8]
    let identity: AgeIdentity
  }

  /// Small data of each kind, the second recipient being the one whose identity is given.
  static func small() throws -> [Sealed] {
    let identity = AgeIdentity.generate()
    let recipients = [AgeIdentity.generate().recipient, identity.recipient].compactMap { $0 }
    return [
      Sealed(
        testDescription: "X25519", stored: try ageEncrypt(plain, to: recipients), identity: identity),
      Sealed(
        testDescription: "scrypt", stored: try ageEncrypt(plain, to: [.passphrase("p", workFactor: 4)]),
        identity: .passphrase("p", maximumWorkFactor: 8)),
    ]
  }

  @Test("every byte, changed in turn, is noticed")
  func everyFlip() throws {
    for sealed in try Self.small() {
      #expect(try ageDecrypt(sealed.stored, with: [sealed.identity]) == Self.plain)
      for index in sealed.stored.indices {
        for mask: UInt8 in [0x01, 0x20, 0x80, 0xFF] {
          var stored = sealed.stored
          stored[index] ^= mask
          var released: [UInt8] = []
          #expect(throws: DRError.self, "\(sealed.testDescription), byte \(index), mask \(mask)") {
            try ageDecrypt(stored, with: [sealed.identity], released: &released)
          }
          #expect(released.isEmpty)
        }
      }
    }
  }

  @Test("a cut at every length is noticed")
  func everyTruncation() throws {
    for sealed in try Self.small() {
      for length in 0..<sealed.stored.count {
        var released: [UInt8] = []
        let error = #expect(throws: DRError.self, "\(sealed.testDescription), \(length) bytes") {
          try ageDecrypt(Array(sealed.stored[..<length]), with: [sealed.identity], released: &released)
        }
        let isWithinLastChunk = length >= sealed.stored.count - Self.plain.count
        #expect(error?.code == (isWithinLastChunk ? .corruptData : .truncatedData), "\(length) bytes")
        #expect(released.isEmpty)
      }
    }
  }

  @Test("a cut at every boundary, and byte by byte, gives the same")
  func everyBoundary() throws {
    for sealed in try Self.small() {
      for cut in 0...sealed.stored.count {
        var decryptor = AgeDecryptor(identities: [sealed.identity], object: "o")
        var opened = try decryptor.update(ByteBuffer(bytes: sealed.stored[..<cut]))
        opened.writeImmutableBuffer(try decryptor.update(ByteBuffer(bytes: sealed.stored[cut...])))
        opened.writeImmutableBuffer(try decryptor.finish())
        #expect(Array(opened.readableBytesView) == Self.plain, "cut at \(cut)")
      }
      #expect(try ageDecrypt(sealed.stored, with: [sealed.identity], pieces: 1) == Self.plain)
    }
  }

  @Test("pieces of every kind through several chunks", arguments: [65_536, 131_072, 200_000])
  func piecesThroughChunks(size: Int) throws {
    var random = SeededBytes(seed: 11)
    let plain = random.bytes(size)
    let identity = AgeIdentity.generate()
    let recipient = try #require(identity.recipient)
    let sizes = [997, 65_535, 65_536, 65_537, 65_551, 65_552, 65_553, 131_072, 131_104, 150_000, 1 << 20]
    for pieces in sizes {
      let stored = try ageEncrypt(plain, to: [recipient], pieces: pieces)
      let isSame = try ageDecrypt(stored, with: [identity]) == plain
      #expect(isSame, "encrypted in \(pieces)")
      let isSameInPieces = try ageDecrypt(stored, with: [identity], pieces: pieces) == plain
      #expect(isSameInPieces, "decrypted in \(pieces)")
    }
  }

  @Test("a byte changed anywhere in several chunks is located, and what was given before it is right")
  func flipsInChunks() throws {
    var random = SeededBytes(seed: 12)
    let plain = random.bytes(3 * 65_536 + 1000)
    let identity = AgeIdentity.generate()
    let stored = try ageEncrypt(plain, to: [try #require(identity.recipient)])
    let payload = stored.count - plain.count - 4 * 16
    for _ in 0..<60 {
      let index = Int.random(in: payload..<stored.count, using: &random)
      var damaged = stored
      damaged[index] ^= UInt8.random(in: 1...255, using: &random)
      var released: [UInt8] = []
      let error = #expect(throws: DRError.self) {
        try ageDecrypt(damaged, with: [identity], pieces: 50_000, released: &released)
      }
      let chunk = (index - payload) / 65_552
      #expect(error?.code == .corruptData)
      #expect(error?.message.contains("chunk \(chunk) ") == true)
      #expect(error?.message.contains("offset \(payload + chunk * 65_552),") == true)
      let isBeginning = released == Array(plain[..<(chunk * 65_536)])
      #expect(isBeginning)
    }
  }

  @Test("chunks cut off, left out, swapped, repeated or taken from elsewhere")
  func chunksMoved() throws {
    let plain = [UInt8](repeating: 9, count: 3 * 65_536)
    let identity = AgeIdentity.generate()
    let recipient = try #require(identity.recipient)
    let stored = try ageEncrypt(plain, to: [recipient])
    let payload = stored.count - 3 * 65_552
    let header = Array(stored[..<payload])
    let chunks = (0..<3).map { Array(stored[(payload + $0 * 65_552)..<(payload + ($0 + 1) * 65_552)]) }
    let foreign = try Array(ageEncrypt(plain, to: [recipient])[payload..<(payload + 65_552)])

    func code(_ chunks: [[UInt8]]) -> DRError.Code? {
      #expect(throws: DRError.self) { try ageDecrypt(header + chunks.joined(), with: [identity]) }?.code
    }
    let isSame = try ageDecrypt(header + chunks.joined(), with: [identity]) == plain
    #expect(isSame)
    #expect(code([]) == .truncatedData)
    #expect(code([chunks[0]]) == .truncatedData)
    #expect(code([chunks[0], chunks[1]]) == .truncatedData)
    #expect(code([chunks[0], chunks[2]]) == .corruptData)
    #expect(code([chunks[1], chunks[0], chunks[2]]) == .corruptData)
    #expect(code([chunks[0], chunks[0], chunks[1], chunks[2]]) == .corruptData)
    #expect(code([foreign, chunks[1], chunks[2]]) == .corruptData)
    #expect(code([chunks[0], chunks[1], chunks[2], chunks[2]]) == .malformedData)
    #expect(code([chunks[0], chunks[1], chunks[2], [0]]) == .malformedData)
  }

  @Test("after an error, the same error; after the end, a clear one")
  func outOfOrder() throws {
    let identity = AgeIdentity.generate()
    let recipient = try #require(identity.recipient)
    var decryptor = AgeDecryptor(identities: [identity], object: "o")
    for _ in 0..<3 {
      let error = #expect(throws: DRError.self) { try decryptor.update(ByteBuffer(string: "PGDMP\n")) }
      #expect(error?.code == .malformedData)
    }
    #expect(throws: DRError.self) { try decryptor.finish() }

    var whole = AgeDecryptor(identities: [identity], object: "o")
    _ = try whole.update(ByteBuffer(bytes: ageEncrypt([1], to: [recipient])))
    #expect(try whole.finish().readableBytesView.elementsEqual([1]))
    #expect(#expect(throws: DRError.self) { try whole.finish() }?.code == .invalidConfiguration)
    #expect(#expect(throws: DRError.self) { try whole.update(ByteBuffer()) }?.code == .invalidConfiguration)

    var encryptor = try AgeEncryptor(recipients: [recipient])
    #expect(#expect(throws: DRError.self) { try encryptor.update(ByteBuffer()) }?.code == .invalidConfiguration)
    #expect(#expect(throws: DRError.self) { try encryptor.finish() }?.code == .invalidConfiguration)
    _ = try encryptor.start()
    #expect(#expect(throws: DRError.self) { try encryptor.start() }?.code == .invalidConfiguration)
    _ = try encryptor.finish()
    #expect(#expect(throws: DRError.self) { try encryptor.finish() }?.code == .invalidConfiguration)
    #expect(#expect(throws: DRError.self) { try encryptor.update(ByteBuffer()) }?.code == .invalidConfiguration)
  }
}
