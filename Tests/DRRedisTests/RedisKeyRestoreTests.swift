import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Restoring key by key, judged by the server that was restored into.
struct RedisKeyRestoreTests {
  /// A file of keys of every type, and what its server says of its data.
  private static func snapshot() async throws -> (bytes: [UInt8], digest: String, listing: Set<String>) {
    try await LocalRedis.with { server in
      try await SampleKeys.fill(server)
      var listing: Set<String> = []
      for database in [0, 5, 9] {
        for line in try await server.listing(database: database, sorted: true) { listing.insert("\(database) \(line)") }
      }
      return (try await server.save(), try await server.command("debug", "digest"), listing)
    }
  }

  private static func restore(_ bytes: [UInt8], _ restorer: RedisKeyRestorer) async throws -> RedisKeyRestorer.Report {
    let pieces = TestData.pieces(of: ByteBuffer(bytes: bytes), upTo: 1 << 16)
    return try await restorer.restoreKeys(
      size: Int64(bytes.count), object: "dump.rdb", logger: RedisFixture.logger, from: { ByteStream(pieces) })
  }

  private static func refusal(_ bytes: [UInt8], _ restorer: RedisKeyRestorer) async -> DRError? {
    do {
      _ = try await restore(bytes, restorer)
      return nil
    } catch {
      return error as? DRError
    }
  }

  @Test("Every key comes back with its type, its bytes and its time to live; twice is safe")
  func everything() async throws {
    let (bytes, digest, listing) = try await RedisKeyRestoreTests.snapshot()
    try await LocalRedis.with { target in
      var restorer = RedisKeyRestorer(server: target.settings)
      restorer.functions = .add
      let report = try await RedisKeyRestoreTests.restore(bytes, restorer)
      #expect(report.restored == listing.count && report.selected == listing.count)
      #expect(report.failed == 0 && report.existing == 0 && report.expired == 0 && report.functions == 2)
      #expect(try await target.command("debug", "digest") == digest)
      var found: Set<String> = []
      for database in [0, 5, 9] {
        for line in try await target.listing(database: database, sorted: true) { found.insert("\(database) \(line)") }
      }
      #expect(found == listing)
      // Both kinds of tables were compared by their members, 600 of each.
      #expect(found.contains { $0.contains(" set -1 02:") && $0.count(where: { $0 == "," }) == 599 })
      #expect(found.contains { $0.contains(" hash -1 04:") && $0.count(where: { $0 == "," }) == 599 })
      #expect(try await target.command("fcall", "f2", "0") == "twotwotwotwotwo")
      // Groups of streams, with what is pending.
      #expect(try await target.command("xpending", "stream", "workers").hasPrefix("48"))

      _ = try await target.command("set", "short", "changed")
      restorer.functions = .leave
      let again = try await RedisKeyRestoreTests.restore(bytes, restorer)
      #expect(again.existing == listing.count && again.restored == 0 && again.failed == 0)
      #expect(try await target.command("get", "short") == "changed")
      restorer.replacesExisting = true
      restorer.functions = .replace
      let replaced = try await RedisKeyRestoreTests.restore(bytes, restorer)
      #expect(replaced.restored == listing.count && replaced.existing == 0)
      #expect(try await target.command("debug", "digest") == digest)
    }
  }

  @Test("Keys are chosen by pattern, type and database, renamed, and moved to another database")
  func selection() async throws {
    let (bytes, _, listing) = try await RedisKeyRestoreTests.snapshot()
    try await LocalRedis.with { target in
      var restorer = RedisKeyRestorer(server: target.settings)
      restorer.selection = RedisKeySelection(
        patterns: ["hash-*", "set-*"], types: ["hash"], renamedPrefix: ("hash-", "restored:"))
      let hashes = try await RedisKeyRestoreTests.restore(bytes, restorer)
      #expect(hashes.restored == 3 && hashes.selected == 3)
      let names = try await target.command("keys", "*").split(separator: "\n").sorted()
      #expect(names == ["restored:large", "restored:long-value", "restored:small"])
      #expect(try await target.command("hget", "restored:small", "b") == "two")
      let ttl = Int(try await target.command("ttl", "restored:small")) ?? -1
      #expect((49_000...50_000).contains(ttl))

      restorer.selection = RedisKeySelection(databases: [5, 9], movedDatabases: [5: 1])
      let moved = try await RedisKeyRestoreTests.restore(bytes, restorer)
      #expect(moved.restored == 4)
      #expect(try await target.command("dbsize", database: 1) == "3")
      #expect(try await target.command("dbsize", database: 9) == "1")
      #expect(try await target.command("get", "other", database: 1) == "1")

      restorer.selection = RedisKeySelection(patterns: ["nothing*"])
      #expect(try await RedisKeyRestoreTests.restore(bytes, restorer).selected == 0)
      restorer.selection = RedisKeySelection(types: ["hashes"])
      #expect(await RedisKeyRestoreTests.refusal(bytes, restorer)?.code == .invalidConfiguration)
      #expect(listing.count > 30)
    }
  }

  @Test("A key whose time is past is reported, not restored; a value over the limit fails and is named")
  func pastAndTooLong() async throws {
    var forge = RDBForge(version: "0010")
    forge.add([252] + RDBForge.little(UInt64(Date().timeIntervalSince1970 * 1000) - 5000, 8))
    forge.key("past", 0, RDBForge.string("gone"))
    forge.add([252] + RDBForge.little(UInt64(Date().timeIntervalSince1970 * 1000) + 500_000, 8))
    forge.key("future", 0, RDBForge.string("here"))
    forge.key("long", 0, RDBForge.string([UInt8](repeating: 120, count: 5000)))
    forge.key("plain", 0, RDBForge.string("x"))
    let bytes = forge.file()
    try await LocalRedis.with { target in
      var restorer = RedisKeyRestorer(server: target.settings)
      restorer.valueLimit = 1000
      let report = try await RedisKeyRestoreTests.restore(bytes, restorer)
      #expect(report.selected == 4 && report.restored == 2 && report.expired == 1 && report.failed == 1)
      #expect(report.failures.first?.key == "long")
      // As the file has it: 5000 bytes behind a length of two.
      #expect(report.failures.first?.why == "its value has 5002 bytes, over the limit of 1000 (--value-limit)")
      #expect(try await target.command("dbsize") == "2")
      let ttl = Int(try await target.command("pttl", "future")) ?? -1
      #expect((400_000...500_000).contains(ttl))
      // As a backup's restorer it must not pass for done.
      try await RedisFixture.withRepository { repository, folder in
        let file = "\(folder)/dump.rdb"
        try Data(bytes).write(to: URL(filePath: file))
        let manifest = try await repository.backUp(
          RedisSnapshot(component: try RedisFixture.component(), file: file), cadence: .hourly,
          logger: RedisFixture.logger)
        let limited = restorer
        await #expect(throws: DRError.self) {
          _ = try await limited.restore(
            from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        }
        var whole = limited
        whole.valueLimit = 1 << 20
        whole.replacesExisting = true
        let outcome = try await whole.restore(
          from: repository.reader(for: manifest), to: .immediate, logger: RedisFixture.logger)
        #expect(outcome.items == 3)
      }
    }
  }

  @Test("Files of other versions are restored as far as the server knows their types; the rest fails by name")
  func otherVersions() async throws {
    try await LocalRedis.with { target in
      let restorer = RedisKeyRestorer(server: target.settings)
      let old = try await RedisKeyRestoreTests.restore(RecordedFiles.version9, restorer)
      // One key's time will pass in 1970 and some years.
      #expect(old.restored + old.expired == 11 && old.failed == 0)
      #expect(try await target.command("hget", "h", "e") == "9999999999999")
      _ = try await target.command("flushall")
      let new = try await RedisKeyRestoreTests.restore(RecordedFiles.version12, restorer)
      // Four are of types that Redis 7.0 does not know, one is a module's.
      #expect(new.selected == 12 && new.failed == 5 && new.restored == 7, "\(new)")
      #expect(Set(new.failures.map(\.key)) == ["gr", "st", "s", "h", "hbig"])
    }
  }

  @Test("A file that is not whole restores no key; a server that takes none ends it with the reason")
  func refusals() async throws {
    let bytes = RDBForge.oldForms().file()
    try await LocalRedis.with { target in
      let restorer = RedisKeyRestorer(server: target.settings)
      var flipped = bytes
      flipped[60] ^= 1
      for bad in [flipped, Array(bytes.dropLast()), RDBForge.oldForms().file(checksum: false)] {
        let error = await RedisKeyRestoreTests.refusal(bad, restorer)
        let size = try await target.command("dbsize")
        #expect(error != nil && size == "0")
      }
      let none = try await target.command("acl", "setuser", "reader", "on", "nopass", "~*", "+ping")
      #expect(none == "OK")
      var reader = restorer
      reader.server.user = "reader"
      reader.server.password = .value("any")
      let denied = await RedisKeyRestoreTests.refusal(bytes, reader)
      #expect(denied?.code == .sourceFailed && denied?.redisError?.kind == "NOPERM", "\(String(describing: denied))")
      _ = try await target.command("config", "set", "maxmemory", "1")
      let full = await RedisKeyRestoreTests.refusal(bytes, restorer)
      #expect(full?.code == .noSpace, "\(String(describing: full))")
      _ = try await target.command("config", "set", "maxmemory", "0")
      var forge = RDBForge()
      forge.add([254, 40])
      forge.key("key", 0, RDBForge.string("value"))
      #expect(await RedisKeyRestoreTests.refusal(forge.file(), restorer)?.code == .invalidConfiguration)
    }
  }

  @Test("In a cluster every key goes to the master of its slot")
  func cluster() async throws {
    let bytes = try await LocalRedis.with { server in
      try await server.script((0..<500).map { "SET key:\($0) value-\($0)" } + (0..<100).map { "RPUSH {tag}:\($0) a b" })
      return try await server.save()
    }
    var options = RedisFixture.options()
    options.clusterNodes = 3
    try await RedisFixture.withServer(options) { cluster in
      let report = try await RedisKeyRestoreTests.restore(bytes, RedisKeyRestorer(server: cluster.settings))
      #expect(report.restored == 600 && report.failed == 0)
      var sizes: [Int64] = []
      for node in cluster.nodes.indices { sizes.append(try await cluster.command("DBSIZE", node: node).integer ?? -1) }
      #expect(sizes.reduce(0, +) == 600 && sizes.allSatisfy { $0 > 0 })
      let again = try await RedisKeyRestoreTests.restore(bytes, RedisKeyRestorer(server: cluster.settings))
      #expect(again.existing == 600)
    }
  }
}
