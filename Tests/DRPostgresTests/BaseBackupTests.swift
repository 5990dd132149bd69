import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Base backups of real servers, and the damage that they must notice.
@Suite struct BaseBackupTests {
  @Test("A backup holds the server's files, and stock tools open it")
  func capture() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n")
      try await BackupFixture.withRepository { repository, folder in
        let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository)
        #expect(manifest.artifacts.map(\.name).sorted() == ["backup_manifest", "base.tar"])
        #expect(manifest.method == .basebackup)
        #expect(manifest.serverVersion?.hasPrefix("\(server.installation.majorVersion)") == true)
        let identifier = try await server.query("SELECT system_identifier FROM pg_control_system()").single
        #expect(manifest.systemIdentifier == identifier)
        let end = try #require(LSN(manifest.recoveryPoint.position))
        let start = try #require(LSN(manifest.changesFrom?.position ?? ""))
        #expect(start < end)
        #expect(manifest.properties["pagesChecked"]?.integer ?? 0 > 200)
        let listing = try await runCommand(
          "/bin/bash",
          [
            "-o", "pipefail", "-ec",
            "zstd -dc \(folder)/repository/\(try manifest.artifact("base.tar").key) | tar tf -",
          ])
        let names = String(decoding: listing.output, as: UTF8.self).split(separator: "\n")
        #expect(listing.status == 0)
        #expect(names.first == "backup_label")
        // Only the WAL that was asked for comes after it.
        #expect(names.last { !$0.hasPrefix("pg_wal") } == "global/pg_control")
      }
    }
  }

  @Test("A damaged page is found, named, and nothing is committed; it can be recorded instead")
  func damagedPage() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query("CREATE TABLE t AS SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n; CHECKPOINT")
      let path = try #require(try await server.query("SELECT pg_relation_filepath('t')").single)
      try await server.stop()
      try damage("\(server.dataFolder)/\(path)", at: 3 * 8192 + 5000)
      try await server.start()
      try await BackupFixture.withRepository { repository, _ in
        var source = try BackupFixture.source(server)
        let error = await #expect(throws: DRError.self) { _ = try await BackupFixture.backUp(source, to: repository) }
        #expect(error?.code == .sourceDamaged)
        #expect(error?.message.contains("page 3 of \(path)") == true, "\(error?.message ?? "")")
        #expect(try await repository.catalog().backups.isEmpty)
        #expect(try await repository.tier.listAll(prefix: "").isEmpty)

        // The server's own error comes after the end position: it must not be taken for success.
        source.serverVerifiesChecksums = true
        source.damagedPages = .record
        let late = await #expect(throws: DRError.self) { _ = try await BackupFixture.backUp(source, to: repository) }
        #expect(late?.code == .sourceDamaged)
        #expect(late?.message.contains("the server found damaged pages") == true)
        #expect(try await repository.catalog().backups.isEmpty)

        source.serverVerifiesChecksums = false
        let manifest = try await BackupFixture.backUp(source, to: repository)
        #expect(manifest.properties["damagedPages"]?.array?.first?.string?.contains("page 3 of \(path)") == true)
      }
    }
  }

  @Test("A page whose header says that it is newer than the backup is not trusted for that")
  func damagedPageWithHighLSN() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query("CREATE TABLE t AS SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n; CHECKPOINT")
      let path = try #require(try await server.query("SELECT pg_relation_filepath('t')").single)
      try await server.stop()
      // The server leaves pages with such a position out of its own check.
      for offset in 0..<8 { try damage("\(server.dataFolder)/\(path)", at: 2 * 8192 + offset, to: 0x7F) }
      try await server.start()
      try await BackupFixture.withRepository { repository, _ in
        var source = try BackupFixture.source(server)
        source.serverVerifiesChecksums = true
        let error = await #expect(throws: DRError.self) { _ = try await BackupFixture.backUp(source, to: repository) }
        #expect(error?.message.contains("page 2 of \(path)") == true, "\(error?.message ?? "")")
      }
    }
  }

  @Test("Pages that are written while they are read are not called damaged")
  func busyPages() async throws {
    try await PostgresSandbox.withSandbox(.init(settings: ["wal_keep_size": "1GB"]), logger: BackupFixture.logger) {
      server in
      try await server.query(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 30000) n"
      )
      try await BackupFixture.withRepository { repository, _ in
        let load = Task {
          while !Task.isCancelled {
            try await server.query(
              "UPDATE t SET v = md5(random()::text) WHERE id % 7 = (random() * 7)::int; CHECKPOINT")
          }
        }
        for _ in 0..<3 {
          let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository)
          #expect(manifest.properties["damagedPages"] == nil)
          try await Task.sleep(for: .seconds(1))
        }
        load.cancel()
        _ = try? await load.value
      }
    }
  }

  @Test("WAL that the server has thrown away in the meantime is the server's error, not a cut archive")
  func missingWAL() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query("CREATE TABLE t AS SELECT n, repeat('x', 1000) AS v FROM generate_series(1, 20000) n")
      try await BackupFixture.withRepository { repository, _ in
        var source = try BackupFixture.source(server)
        source.maximumRate = 8 << 20
        let slow = source
        let backup = Task { try await BackupFixture.backUp(slow, to: repository) }
        try await waitUntil(.seconds(30)) {
          try await server.query("SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase LIKE 'streaming%'")
            .single
            == "1"
        }
        for _ in 0..<3 { try await server.query("SELECT pg_switch_wal(); UPDATE t SET v = v; CHECKPOINT") }
        let error = await #expect(throws: DRError.self) { _ = try await backup.value }
        #expect(error?.code == .sourceFailed)
        #expect(
          error?.message.contains("58P01") == true || error?.description.contains("WAL") == true,
          "\(error?.message ?? "")")
        #expect(try await repository.catalog().backups.isEmpty)
      }
    }
  }

  @Test("Cancelling ends the server's backup at once and commits nothing")
  func cancelled() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await BackupFixture.withRepository { repository, _ in
        var source = try BackupFixture.source(server)
        source.maximumRate = 1 << 20
        let slow = source
        let backup = Task { try await BackupFixture.backUp(slow, to: repository) }
        try await waitUntil(.seconds(30)) {
          try await server.query("SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase LIKE 'streaming%'")
            .single == "1"
        }
        backup.cancel()
        await #expect(throws: (any Error).self) { _ = try await backup.value }
        try await waitUntil(.seconds(5)) {
          try await server.query("SELECT count(*) FROM pg_stat_progress_basebackup").single == "0"
        }
        #expect(try await repository.tier.listAll(prefix: "").isEmpty)
      }
    }
  }

  @Test("A server that dies in the middle is an error, and nothing is committed")
  func serverDies() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await BackupFixture.withRepository { repository, _ in
        var source = try BackupFixture.source(server)
        source.maximumRate = 1 << 20
        let slow = source
        let backup = Task { try await BackupFixture.backUp(slow, to: repository) }
        try await waitUntil(.seconds(30)) {
          try await server.query("SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase LIKE 'streaming%'")
            .single == "1"
        }
        try await server.kill()
        let error = await #expect(throws: DRError.self) { _ = try await backup.value }
        #expect(error?.code == .sourceFailed)
        #expect(try await repository.tier.listAll(prefix: "").isEmpty)
      }
    }
  }

  @Test("The command speaks the grammar of the server's version")
  func grammar() {
    var command = BaseBackupCommand(label: "it's a label")
    command.includesWAL = true
    #expect(
      command.text(serverVersion: 150_018)
        == "BASE_BACKUP (LABEL 'it''s a label', PROGRESS true, CHECKPOINT 'fast', WAIT false, WAL true, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', VERIFY_CHECKSUMS false)"
    )
    #expect(
      command.text(serverVersion: 140_000)
        == "BASE_BACKUP LABEL 'it''s a label' PROGRESS FAST WAL NOWAIT NOVERIFY_CHECKSUMS MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"
    )
  }

  @Test("Messages of a base backup become frames, however they are cut")
  func demultiplexer() throws {
    var demultiplexer = BaseBackupDemultiplexer(frameSize: 100, isTyped: true, frame: ByteBuffer())
    func take(_ type: Character, _ text: String) throws -> CopyControl? {
      let bytes = Array((String(type) + text).utf8)
      return try demultiplexer.take { memory in
        memory.copyBytes(from: bytes)
        return bytes.count
      }
    }
    func frame() -> String { String(buffer: demultiplexer.takeFrame(replacement: ByteBuffer())) }
    #expect(try take("n", "16400.tar\0/data/space\0") == .pause)
    #expect(demultiplexer.takeFollowing() == .tablespace(oid: 16400, location: "/data/space"))
    #expect(try take("d", String(repeating: "a", count: 60)) == .proceed)
    #expect(try take("p", "12345678") == .proceed)
    #expect(try demultiplexer.take { _ in 0 } == nil)
    #expect(throws: CancellationError.self) { try demultiplexer.take { _ in throw CancellationError() } }
    #expect(demultiplexer.waiting == 60)
    #expect(try take("d", String(repeating: "b", count: 160)) == .pause)
    // A full frame takes no more.
    #expect(try demultiplexer.take { _ in 1 } == .pause)
    #expect(frame() == String(repeating: "a", count: 60) + String(repeating: "b", count: 40))
    #expect(demultiplexer.waiting == 120)
    #expect(frame() == String(repeating: "b", count: 100))
    #expect(try take("n", "base.tar\0\0") == .pause)
    #expect(demultiplexer.takeFollowing() == .base)
    #expect(frame() == String(repeating: "b", count: 20))
    #expect(try take("d", "c") == .proceed)
    #expect(try take("m", "") == .pause)
    #expect(demultiplexer.takeFollowing() == .manifest)
    #expect(frame() == "c")
    for hostile in [("x", ""), ("n", "no end"), ("n", "name.tar\0/somewhere\0")] {
      #expect(throws: DRError.self) { try take(Character(hostile.0), hostile.1) }
    }
    // What fills all the room may be only the start of a message.
    #expect(throws: DRError.self) { try demultiplexer.take { $0.count } }
    #expect(demultiplexer.waiting == 0)
  }

  @Test("Data without a type becomes frames too")
  func untypedDemultiplexer() throws {
    var demultiplexer = BaseBackupDemultiplexer(frameSize: 100, isTyped: false, frame: ByteBuffer())
    for piece in ["n", String(repeating: "d", count: 90), "mpx" + String(repeating: "y", count: 30)] {
      _ = try demultiplexer.take { memory in
        memory.copyBytes(from: Array(piece.utf8))
        return piece.utf8.count
      }
    }
    let frame = String(buffer: demultiplexer.takeFrame(replacement: ByteBuffer()))
    #expect(frame == "n" + String(repeating: "d", count: 90) + "mpx" + String(repeating: "y", count: 6))
    #expect(demultiplexer.waiting == 24)
  }

  private func damage(_ path: String, at offset: Int, to value: UInt8? = nil) throws {
    let file = try FileHandle(forUpdating: URL(filePath: path))
    defer { try? file.close() }
    try file.seek(toOffset: UInt64(offset))
    let old = try #require(try file.read(upToCount: 1)?.first)
    try file.seek(toOffset: UInt64(offset))
    try file.write(contentsOf: [value ?? old ^ 0xFF])
  }
}

/// Asks again until the answer is yes.
func waitUntil(_ limit: Duration, _ condition: () async throws -> Bool) async throws {
  let deadline = ContinuousClock.now + limit
  while try await !condition() {
    guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited \(limit) in vain") }
    try await Task.sleep(for: .milliseconds(50))
  }
}
