import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

private let logger = Logger(label: "test")

@Suite(.serialized) struct ConnectionCopyTests {
  private static let rows = "SELECT n, repeat(md5(n::text), 1 + n % 90) FROM generate_series(1, 20000) n"

  @Test(arguments: [1, 4096, 1 << 20, Int.max])
  func batchesCutAnywhereGiveTheSameBytes(frame: Int) async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await expectWholeCopy(sandbox.settings, frame: frame)
    }
  }

  /// A TLS record can be half read when the socket has nothing more to say: a wait on the socket alone would never end.
  @Test func batchesThroughTLS() async throws {
    var options = PostgresSandbox.Options()
    options.listensOnLoopback = true
    try await PostgresSandbox.withSandbox(options, logger: logger) { sandbox in
      let (status, _, error) = try await runCommand(
        "openssl",
        [
          "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
          "-keyout", "\(sandbox.dataFolder)/server.key", "-out", "\(sandbox.dataFolder)/server.crt",
        ])
      try #require(status == 0, "\(error)")
      try sandbox.user?.own(sandbox.dataFolder)
      try await sandbox.query("ALTER SYSTEM SET ssl = on")
      try await sandbox.query("SELECT pg_reload_conf()")
      var settings = try #require(await sandbox.loopbackSettings)
      settings.sslMode = .require
      settings.timeLimit = .seconds(10)
      let encrypted = settings
      try await waitUntil {
        guard let connection = try? await PostgresConnection.connect(encrypted, logger: logger) else { return false }
        await connection.close()
        return true
      }
      try await PostgresConnection.withConnection(settings, logger: logger) {
        #expect(try await $0.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").single == "t")
        let long = try await $0.query("SELECT repeat('x', 5000000)").single
        #expect(long?.utf8.count == 5_000_000)
      }
      for frame in [1, 40_000, Int.max] { try await expectWholeCopy(settings, frame: frame) }
    }
  }

  private func expectWholeCopy(_ settings: PostgresConnectionSettings, frame: Int) async throws {
    try await PostgresConnection.withConnection(settings, logger: logger) { connection in
      try await connection.send("COPY (\(Self.rows)) TO STDOUT")
      guard case .copyOut = try await connection.nextResult() else {
        Issue.record("no copy")
        return
      }
      // What was begun must be finished first.
      await #expect(throws: DRError.self) { try await connection.nextResult() }
    }
    try await PostgresConnection.withConnection(settings, logger: logger) { connection in
      try await connection.send("COPY (\(Self.rows)) TO STDOUT")
      _ = try await connection.nextResult()
      var all = ByteBuffer()
      var batches = 0
      while true {
        var buffer = ByteBuffer()
        let state = try await connection.copyBatch(into: &buffer) { buffer, message in
          buffer.writeBytes(message)
          return buffer.readableBytes >= frame ? .pause : .proceed
        }
        batches += 1
        all.writeBuffer(&buffer)
        if state == .ended { break }
        try #require(state == .paused)
      }
      guard case .command("COPY 20000") = try await connection.nextResult() else {
        Issue.record("the copy's tag is missing")
        return
      }
      #expect(try await connection.nextResult() == nil)
      let expected = try await connection.query(
        "SELECT string_agg(n || E'\\t' || text || E'\\n', '' ORDER BY n) FROM (\(Self.rows)) AS t (n, text)")
      #expect(String(buffer: all) == expected.single)
      #expect(batches == (frame == 1 ? 20_001 : batches))
      #expect(frame != .max || batches == 1)
    }
  }

  @Test func aCopyThatFailsHalfWayIsAnErrorAfterItsData() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await PostgresConnection.withConnection(sandbox.settings, logger: logger) { connection in
        try await connection.send("COPY (SELECT 1 / (5000 - n) FROM generate_series(1, 9999) n) TO STDOUT")
        _ = try await connection.nextResult()
        var messages = 0
        let state = try await connection.copyBatch(into: &messages) { messages, _ in
          messages += 1
          return .proceed
        }
        #expect(state == .ended)
        #expect(messages < 5000)
        let error = await #expect(throws: DRError.self) { try await connection.nextResult() }
        #expect(error?.sqlState == "22012")
        #expect(try await connection.query("SELECT 1").single == "1")
      }
    }
  }

  @Test func aConsumerThatThrowsEndsTheCopyInTheServer() async throws {
    struct Refusal: Error {}
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      let connection = try await PostgresConnection.connect(sandbox.settings, logger: logger)
      let process = try await connection.serverProcessID
      try await connection.send(
        "COPY (SELECT repeat('x', 9000), pg_sleep(0.01) FROM generate_series(1, 1000000)) TO STDOUT")
      _ = try await connection.nextResult()
      var nothing = 0
      await #expect(throws: Refusal.self) {
        try await connection.copyBatch(into: &nothing) { _, _ in throw Refusal() }
      }
      #expect(await !connection.isOpen)
      try await waitUntil { try await !isActive(process, in: sandbox) }
    }
  }

  @Test func dataGoesInToo() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await PostgresConnection.withConnection(sandbox.settings, logger: logger) { connection in
        try await connection.query("CREATE TABLE t (n int, text text)")
        try await connection.send("COPY t FROM STDIN")
        guard case .copyIn = try await connection.nextResult() else {
          Issue.record("no copy")
          return
        }
        // More than any socket buffer holds.
        for first in stride(from: 0, to: 20_000, by: 1000) {
          let lines = (first..<first + 1000).map { "\($0)\t\(String(repeating: "x", count: 500))\n" }.joined()
          try await connection.sendCopyData(ByteBuffer(string: lines))
        }
        try await connection.endCopy()
        guard case .command("COPY 20000") = try await connection.nextResult() else {
          Issue.record("the copy's tag is missing")
          return
        }
        #expect(try await connection.nextResult() == nil)
        #expect(try await connection.query("SELECT count(*), sum(n) FROM t").first?[1] == "199990000")
      }
    }
  }

  @Test func aBaseBackupsAnswersComeInTheirOrder() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await PostgresConnection.withConnection(sandbox.settings, replication: true, logger: logger) { connection in
        try await connection.send("BASE_BACKUP (LABEL 'test', PROGRESS, CHECKPOINT 'fast', MANIFEST 'yes')")
        guard case .rows(let start) = try await connection.nextResult(),
          case .rows(let tablespaces) = try await connection.nextResult(),
          case .copyOut = try await connection.nextResult()
        else {
          Issue.record("not the order of a base backup")
          return
        }
        #expect(start.columns == ["recptr", "tli"])
        #expect(tablespaces.columns == ["spcoid", "spclocation", "size"])
        #expect(tablespaces.count == 1)
        var kinds: [UInt8: Int] = [:]
        while true {
          let state = try await connection.copyBatch(into: &kinds) { kinds, message in
            kinds[message.first ?? 0, default: 0] += message.count
            return kinds[UInt8(ascii: "d"), default: 0] % 3 == 0 ? .pause : .proceed
          }
          if state == .ended { break }
        }
        #expect(Set(kinds.keys) == Set("nmdp".utf8))
        #expect(kinds[UInt8(ascii: "d"), default: 0] > 10 << 20)
        guard case .rows(let end) = try await connection.nextResult() else {
          Issue.record("no end position")
          return
        }
        #expect(end.columns == ["recptr", "tli"])
        while try await connection.nextResult() != nil {}
        #expect(try await connection.query("IDENTIFY_SYSTEM").first?["timeline"] == "1")
      }
    }
  }

  @Test(arguments: [true, false])
  func cancellingABaseBackupEndsItInTheServer(duringACopyWait: Bool) async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      // Work for the checkpoint, which is spread over minutes.
      try await sandbox.query("CREATE TABLE t AS SELECT generate_series(1, 100000)")
      let backup = Task {
        try await PostgresConnection.withConnection(sandbox.settings, replication: true, logger: logger) { connection in
          // 32 KiB a second: it would go on for a quarter of an hour. Or the spread checkpoint, which takes minutes.
          let checkpoint = duringACopyWait ? "fast" : "spread"
          try await connection.send("BASE_BACKUP (CHECKPOINT '\(checkpoint)', MAX_RATE 32, MANIFEST 'no')")
          for _ in 0..<3 { _ = try await connection.nextResult(limit: .seconds(600)) }
          var bytes = 0
          return try await connection.copyBatch(into: &bytes, limit: .seconds(600)) { bytes, message in
            bytes += message.count
            return .proceed
          }
        }
      }
      let phase = duringACopyWait ? "streaming database files" : "waiting for checkpoint to finish"
      try await waitUntil {
        try await sandbox.query("SELECT phase FROM pg_stat_progress_basebackup").single == phase
      }
      backup.cancel()
      await #expect(throws: CancellationError.self) { try await backup.value }
      try await waitUntil(limit: .seconds(2)) {
        try await sandbox.query(
          "SELECT (SELECT count(*) FROM pg_stat_replication) + (SELECT count(*) FROM pg_stat_progress_basebackup)"
        ).single == "0"
      }
    }
  }

  @Test func aStreamIsIdleThenSpeaksAndEndsInGoodOrder() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      let connection = try await PostgresConnection.connect(sandbox.settings, replication: true, logger: logger)
      let position = try #require(try await connection.query("IDENTIFY_SYSTEM").first?["xlogpos"])
      try await connection.send("START_REPLICATION PHYSICAL \(position) TIMELINE 1")
      guard case .copyBoth = try await connection.nextResult() else {
        Issue.record("no stream")
        return
      }
      try await sandbox.query("SELECT pg_create_restore_point('here')")
      var kinds: Set<UInt8> = []
      try await waitUntil {
        guard case .data(let message) = try await connection.receiveCopyData(timeout: .seconds(5)) else { return false }
        kinds.insert(message.getInteger(at: message.readerIndex) ?? 0)
        return kinds.contains(UInt8(ascii: "w"))
      }
      // Nothing is written any more: after what is under way, it is idle.
      try await waitUntil {
        if case .idle = try await connection.receiveCopyData(timeout: .milliseconds(100)) { return true }
        return false
      }
      // A status that asks for a reply gets one.
      var status = ByteBuffer(bytes: [UInt8(ascii: "r")])
      status.writeMultipleIntegers(UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt8(1))
      try await connection.sendCopyData(status)
      var reply: [UInt8] = []
      let state = try await connection.copyAvailable(into: &reply, waiting: .seconds(20)) { reply, message in
        reply.append(message.first ?? 0)
        return .proceed
      }
      #expect(state == .idle)
      #expect(reply.contains(UInt8(ascii: "k")))

      // A cancelled wait leaves the stream open, to be ended in good order.
      let wait = Task { try await connection.receiveCopyData(timeout: .seconds(600)) }
      try await Task.sleep(for: .milliseconds(50))
      wait.cancel()
      await #expect(throws: CancellationError.self) { try await wait.value }
      #expect(await connection.isOpen)
      try await connection.endCopy()
      while try await connection.nextResult() != nil {}
      #expect(try await connection.query("IDENTIFY_SYSTEM").count == 1)
      await connection.close()
    }
  }
}
