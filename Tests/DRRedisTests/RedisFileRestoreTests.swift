import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Restoring by file, judged by the servers that then start.
struct RedisFileRestoreTests {
  /// A snapshot of a server with keys of every type, and what that server says of its data.
  private func snapshot() async throws -> (bytes: [UInt8], digest: String, keys: Int) {
    try await LocalRedis.with { server in
      try await SampleKeys.fill(server)
      return (try await server.save(), try await server.command("debug", "digest"), try await server.keys())
    }
  }

  private func restore(_ bytes: [UInt8], _ restorer: RedisFileRestorer) async throws -> RedisFileRestorer.Report {
    let pieces = TestData.pieces(of: ByteBuffer(bytes: bytes), upTo: 1 << 16)
    return try await restorer.restoreFiles(from: ByteStream(pieces), size: Int64(bytes.count), object: "dump.rdb")
  }

  private func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).filter { !$0.hasPrefix("redis.") }.sorted()
  }

  private func mode(_ path: String) throws -> Int {
    (try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? NSNumber)?.intValue ?? -1
  }

  @Test("The append-only trap: a copied dump.rdb loses everything, ours loses nothing")
  func trap() async throws {
    let (bytes, digest, keys) = try await snapshot()
    // As the plan's own scenario has it: copy the file, start the server, which has appendonly yes.
    try await withTemporaryFolder { folder in
      try Data(bytes).write(to: URL(filePath: "\(folder)/dump.rdb"))
      let found = try await LocalRedis.with(["--appendonly", "yes"], in: folder) { try await $0.keys() }
      #expect(found == 0)
    }
    try await withTemporaryFolder { folder in
      let report = try await restore(
        bytes, RedisFileRestorer(layout: RedisDataLayout(folder: folder, appendOnly: .folder)))
      #expect(report.summary.keys == keys && report.movedAside.isEmpty && report.outcome.items == 3)
      let judge = try await runCommand("redis-check-aof", ["\(folder)/appendonlydir/appendonly.aof.manifest"])
      #expect(judge.status == 0, "\(String(decoding: judge.output, as: UTF8.self))")
      let found = try await LocalRedis.with(["--appendonly", "yes"], in: folder) { server in
        let digest = try await server.command("debug", "digest")
        _ = try await server.command("set", "after", "restore")
        return digest
      }
      #expect(found == digest)
      // What is written after the restore is there after the next start, too.
      let later = try await LocalRedis.with(["--appendonly", "yes"], in: folder) { try await $0.keys() }
      #expect(later == keys + 1)
    }
  }

  @Test("The other trap: a server that is told to restart saves what it holds over a file that was copied in")
  func restartTrap() async throws {
    let (bytes, digest, _) = try await snapshot()
    try await withTemporaryFolder { folder in
      let layout = RedisDataLayout(folder: folder, appendOnly: .off)
      try await LocalRedis.with(["--save", "3600", "1"], in: folder) { server in
        _ = try await server.command("set", "poor", "data")
        try Data(bytes).write(to: URL(filePath: "\(folder)/dump.rdb"))
        // Ours does not write where a server runs.
        #expect(await refusal(bytes, RedisFileRestorer(layout: layout))?.code == .destinationInUse)
        _ = try await server.command("shutdown")
      }
      let found = try await LocalRedis.with(in: folder) { try await $0.command("keys", "*") }
      #expect(found == "poor")
      _ = try await restore(bytes, RedisFileRestorer(layout: layout))
      #expect(try await LocalRedis.with(in: folder) { try await $0.command("debug", "digest") } == digest)
    }
  }

  @Test("Without append-only files the snapshot becomes the RDB file; one file serves the older layout")
  func otherLayouts() async throws {
    let (bytes, digest, _) = try await snapshot()
    try await withTemporaryFolder { folder in
      let layout = RedisDataLayout(folder: "\(folder)/not/there", appendOnly: .off)
      _ = try await restore(bytes, RedisFileRestorer(layout: layout))
      #expect(try names(layout.folder) == ["dump.rdb"])
      #expect(try await LocalRedis.with(in: layout.folder) { try await $0.command("debug", "digest") } == digest)
    }
    try await withTemporaryFolder { folder in
      _ = try await restore(
        bytes, RedisFileRestorer(layout: RedisDataLayout(folder: folder, appendOnly: .singleFile)))
      #expect(try names(folder) == ["appendonly.aof"])
      // Redis 7 takes over what Redis 6 left.
      let found = try await LocalRedis.with(["--appendonly", "yes"], in: folder) {
        try await $0.command("debug", "digest")
      }
      #expect(found == digest)
    }
  }

  @Test("What was there is kept beside, with nothing a server could load by mistake; owner and mode stay")
  func aside() async throws {
    let (bytes, digest, _) = try await snapshot()
    try await withTemporaryFolder { folder in
      try await LocalRedis.with(["--appendonly", "yes"], in: folder) { server in
        _ = try await server.command("set", "old", "data")
        _ = try await server.save()
      }
      let before = try names(folder)
      #expect(before == ["appendonlydir", "dump.rdb"])
      let base = "\(folder)/appendonlydir/appendonly.aof.1.base.rdb"
      for (path, mode) in [("\(folder)/appendonlydir", 0o750), (base, 0o640), ("\(folder)/dump.rdb", 0o644)] {
        chmod(path, mode_t(mode))
        if geteuid() == 0 { chown(path, 12345, 12346) }
      }
      let report = try await restore(
        bytes, RedisFileRestorer(layout: RedisDataLayout(folder: folder, appendOnly: .folder)))
      #expect(report.movedAside.count == 2)
      for path in report.movedAside { #expect(FileManager.default.fileExists(atPath: path)) }
      let after = try names(folder)
      #expect(after.filter { !$0.contains(".before-") } == ["appendonlydir"])
      #expect(after.count == 3)
      #expect(try mode("\(folder)/appendonlydir") == 0o750)
      for name in try names("\(folder)/appendonlydir") {
        let bits = try mode("\(folder)/appendonlydir/\(name)")
        #expect(bits == 0o640)
        var status = stat()
        #expect(stat("\(folder)/appendonlydir/\(name)", &status) == 0)
        if geteuid() == 0 { #expect(status.st_uid == 12345 && status.st_gid == 12346) }
      }
      let found = try await LocalRedis.with(["--appendonly", "yes"], in: folder) {
        try await $0.command("debug", "digest")
      }
      #expect(found == digest)
      // Several in one second keep what each of them found.
      for round in 1...3 {
        let again = try await restore(
          bytes, RedisFileRestorer(layout: RedisDataLayout(folder: folder, appendOnly: .folder)))
        let asides = try names(folder).filter { $0.contains("appendonlydir.before-") }
        #expect(again.movedAside.count >= 1 && asides.count == round + 1, "\(asides)")
      }
      // The old data can be had again by its names.
      let old = try #require(report.movedAside.first { $0.contains("appendonlydir") })
      try FileManager.default.removeItem(atPath: "\(folder)/appendonlydir")
      try FileManager.default.moveItem(atPath: old, toPath: "\(folder)/appendonlydir")
      let again = try await LocalRedis.with(["--appendonly", "yes"], in: folder) { try await $0.command("get", "old") }
      #expect(again == "data")
    }
  }

  @Test("A folder on which a server runs is refused, and a file that is not whole changes nothing")
  func refusals() async throws {
    let bytes = RDBForge.oldForms().file()
    try await withTemporaryFolder { folder in
      let restorer = RedisFileRestorer(layout: RedisDataLayout(folder: folder, appendOnly: .off))
      try await LocalRedis.with(in: folder) { server in
        _ = try await server.save()
        let error = await refusal(bytes, restorer)
        #expect(error?.code == .destinationInUse)
        #expect(try names(folder) == ["dump.rdb"])
      }
      let before = try Data(contentsOf: URL(filePath: "\(folder)/dump.rdb"))
      var flipped = bytes
      flipped[40] ^= 4
      for bad in [
        Array(bytes.dropLast()), flipped, [], Array(bytes.prefix(200)), RDBForge.oldForms().file(checksum: false),
      ] {
        let error = await refusal(bad, restorer)
        #expect(error != nil)
        let left = try names(folder)
        let now = try Data(contentsOf: URL(filePath: "\(folder)/dump.rdb"))
        #expect(left == ["dump.rdb"] && now == before)
      }
      var accepting = restorer
      accepting.acceptsMissingChecksum = true
      #expect(await refusal(RDBForge.oldForms().file(checksum: false), accepting) == nil)
      // A compressed value that lies, under a right checksum: it would end the server.
      var forge = RDBForge(version: "0010")
      forge.key("key", 16, RDBForge.string(RDBForge.listpack(["a", "b", "c"])))
      #expect(await refusal(forge.file(), restorer)?.code == .malformedData)
      // A folder that the restore has made is not left behind.
      let fresh = RedisFileRestorer(layout: RedisDataLayout(folder: "\(folder)/new", appendOnly: .folder))
      #expect(await refusal(Array(bytes.dropLast()), fresh) != nil)
      #expect(!FileManager.default.fileExists(atPath: "\(folder)/new"))
    }
  }

  private func refusal(_ bytes: [UInt8], _ restorer: RedisFileRestorer) async -> DRError? {
    do {
      _ = try await restore(bytes, restorer)
      return nil
    } catch {
      return error as? DRError
    }
  }

  @Test("The layout is read from the server's configuration, includes too; names that leave the folder are refused")
  func configuration() async throws {
    try await withTemporaryFolder { folder in
      let file = "\(folder)/redis.conf"
      try """
      # appendonly yes
      dir /var/lib/redis
      include \(folder)/more.conf
      dbfilename "other.rdb"
      """.write(toFile: file, atomically: true, encoding: .utf8)
      try "appendonly YES\nappenddirname aof\n".write(toFile: "\(folder)/more.conf", atomically: true, encoding: .utf8)
      let layout = try RedisDataLayout(configurationFile: file)
      #expect(layout.folder == "/var/lib/redis" && layout.appendOnly == .folder)
      #expect(layout.dumpFile == "other.rdb" && layout.appendFolder == "aof" && layout.appendFile == "appendonly.aof")
      for bad in ["dir ./here\n", "dir /x\ndbfilename ../y\n", "dir /x\nappenddirname a/b\n", "appendonly yes\n"] {
        try bad.write(toFile: file, atomically: true, encoding: .utf8)
        #expect(throws: DRError.self) { try RedisDataLayout(configurationFile: file) }
      }
      var escaping = RedisDataLayout(folder: folder, appendOnly: .off)
      escaping.dumpFile = "../dump.rdb"
      let bytes = RDBForge.oldForms().file()
      #expect(await refusal(bytes, RedisFileRestorer(layout: escaping))?.code == .invalidConfiguration)
    }
  }
}
