import DRCore
import DRRedis
import DRStorage
import NIOCore
import Testing

/// A restore that reads the log while a receiver goes on writing it.
struct SupersededSegmentTests {
  @Test("A partial segment that was superseded after it was listed is read from what took its place, up to its own end")
  func superseded() async throws {
    let id = ChangeAssemblerTests.id
    let component = try Component(.redis, "cache")
    let archive = RedisLogArchive(tier: InMemoryTier(), component: component)
    let store = try ChangeLogStore(
      tier: archive.tier, component: component, layout: archive.layout, log: "aof", systemIdentifier: id)
    var assembler = ChangeAssembler(at: ReplicationPosition(history: id, offset: 0), size: 1 << 20)
    func append(_ key: String) throws -> ChangeAssembler.Piece {
      _ = try assembler.append(
        ByteBuffer(string: ChangeAssemblerTests.command("SET", key, "value")), at: 1_764_000_000_000)
      return try #require(assembler.partial())
    }
    let first = try append("a")
    try await store.putPartial(first.segment.name, first.bytes)
    let listed = try #require(try await archive.lines().first?.segments.first)
    #expect(listed.isPartial)
    let asListed = try await archive.read(listed, line: id)
    #expect(asListed.map(\.end) == [first.segment.end])

    let second = try append("b")
    try await store.putPartial(second.segment.name, second.bytes)
    try await store.deletePartial(first.segment.name)
    #expect(try await archive.read(listed, line: id) == asListed)

    _ = try append("c")
    let sealed = assembler.seal()
    let full = try #require(sealed)
    _ = try await store.put(full.segment.name, full.bytes)
    try await store.deletePartial(second.segment.name)
    #expect(try await archive.read(listed, line: id) == asListed)
    let all = try #require(try await archive.lines().first?.segments.first)
    #expect(try await archive.read(all, line: id).count == 3)

    try await store.delete(full.segment.name)
    let gone = await #expect(throws: DRError.self) { try await archive.read(listed, line: id) }
    #expect(gone?.code == .objectNotFound)
  }
}
