import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Backups and segments of a host that holds public keys only.
struct EncryptedStorageTests {
  private let mine = AgeIdentity.generate()
  private let escrow = AgeIdentity.generate()
  private let stranger = AgeIdentity.generate()

  private func recipientsOnly() throws -> Encoding {
    Encoding(
      recipients: [try #require(mine.recipient), try #require(escrow.recipient)], frameSize: 64 << 10)
  }

  @Test("An encrypted backup opens for each of its recipients, for the age command, and for nobody else")
  func backup() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      let encoding = try recipientsOnly()
      let source = MemorySource.sample(try .postgres("app"))
      let backup = try await repository.backUp(source, cadence: .daily, encoding: encoding, logger: quiet)
      #expect(backup.artifacts.allSatisfy { $0.recipients.count == 2 && $0.key.rawValue.hasSuffix(".zst.age") })
      let artifact = try backup.artifact("base.tar")
      let raw = try #require(source.artifacts["base.tar"])
      for identity in [mine, escrow] {
        let reader = repository.reader(for: backup, decoding: Decoding(identities: [stranger, identity]))
        #expect(try await reader.read(artifact).collect(limit: 1 << 30) == raw)
        let part = try await reader.read(artifact, range: 131_000..<200_123)
        #expect(try await part.collect(limit: 1 << 30) == raw.getSlice(at: 131_000, length: 69_123))
      }
      for identities in [[], [stranger]] {
        let reader = repository.reader(for: backup, decoding: Decoding(identities: identities))
        #expect(
          await code { _ = try await reader.read(artifact).collect(limit: 1 << 30) } == .noMatchingIdentity)
        #expect(
          await code { _ = try await reader.read(artifact, range: 0..<10).collect(limit: 10) } == .noMatchingIdentity)
      }
      let secret = try #require(escrow.secretText())
      let manifest = try await tier.text("postgres/metadata/\(backup.id).json")
      #expect(!manifest.contains("AGE-SECRET-KEY"))
      let opened = try await runCommand(
        "sh", ["-c", "age -d -i - \"$0\" | zstd -q -d -c", "\(path)/\(artifact.key)"], input: Array(secret.utf8))
      #expect(ByteBuffer(bytes: opened.output) == raw, "\(opened.error)")
    }
  }

  @Test("A flipped bit in an encrypted artifact is found")
  func flipped() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      let encoding = try recipientsOnly()
      let backup = try await repository.backUp(
        MemorySource.sample(try .postgres("app")), cadence: .daily, encoding: encoding, logger: quiet)
      let artifact = try backup.artifact("base.tar")
      let url = URL(fileURLWithPath: "\(path)/\(artifact.key)")
      let good = try Data(contentsOf: url)
      var random = TestData.Random(seed: 41)
      for _ in 0..<40 {
        var bad = good
        let position = Int.random(in: 0..<good.count, using: &random)
        bad[position] ^= 1 << UInt8.random(in: 0...7, using: &random)
        try bad.write(to: url)
        let reader = repository.reader(for: backup, decoding: Decoding(identities: [mine]))
        let error = await #expect(throws: DRError.self, "flipped at \(position)") {
          _ = try await reader.read(artifact).collect(limit: 1 << 30)
        }
        #expect(error?.object == artifact.key.rawValue)
      }
    }
  }

  @Test("Without any identity, a segment's content is told apart by its name")
  func segments() async throws {
    try await withLocalTier { tier, path in
      let store = try ChangeLogStoreTests.store(tier)
      let name = ChangeLogStoreTests.name
      let encoding = try recipientsOnly()
      let raw = TestData.rows(200_000)
      #expect(try await store.put(name, raw, encoding: encoding) == false)
      let before = files(in: path)
      #expect(before.allSatisfy { $0.hasSuffix("-\(StreamDigest.hex(raw)).zst.age") })
      #expect(try await store.put(name, raw, encoding: encoding) == true)
      #expect(
        await code { _ = try await store.put(name, TestData.rows(200_001), encoding: encoding) } == .segmentConflict)
      #expect(files(in: path) == before)
      #expect(await code { _ = try await store.get(name) } == .noMatchingIdentity)
      let decoding = Decoding(identities: [mine])
      #expect(try await store.get(name, decoding: decoding) == raw)

      // Once encryption is switched on, no clear copy of the partial segment stays.
      let next = "0000000100000000000000A2"
      try await store.putPartial(next, raw)
      try await store.putPartial(next, TestData.rows(300_000), encoding: encoding)
      #expect(files(in: path).filter { $0.contains(next) }.allSatisfy { $0.hasSuffix(".partial.zst.age") })
      #expect(try await store.getPartial(next, decoding: decoding) == TestData.rows(300_000))
      #expect(await code { _ = try await store.getPartial(next) } == .noMatchingIdentity)
    }
  }
}
