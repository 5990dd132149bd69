import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

private let logger = Logger(label: "test")

@Suite(.serialized) struct ConnectionTests {
  @Test func queriesGiveTextNullsBytesAndTags() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await PostgresConnection.withConnection(sandbox.settings, logger: logger) { connection in
        let rows = try await connection.query("SELECT 1 AS one, NULL AS none, 'é' AS text, '\\x00ff'::bytea AS bytes")
        #expect(rows.columns == ["one", "none", "text", "bytes"])
        #expect(rows.count == 1)
        #expect(rows.first?["one"] == "1")
        #expect(rows.first?["none"] == nil)
        #expect(rows.first?["text"] == "é")
        #expect(rows.first?.bytes("bytes") == [0, 255])
        #expect(rows.first?.bytes("text") == nil)
        #expect(rows.first?[7] == nil)

        let parameter = "it's; DROP TABLE x --"
        #expect(try await connection.query("SELECT $1::text || $2", [parameter, "!"]).single == parameter + "!")
        #expect(try await connection.query("SELECT $1::text IS NULL", [nil]).single == "t")
        #expect(try await connection.query("CREATE TABLE t AS SELECT generate_series(1, 3)").commandTag == "SELECT 3")
        let several = try await connection.queryAll("SELECT 1; UPDATE t SET generate_series = 0; SELECT 2")
        #expect(several.map(\.single) == ["1", nil, "2"])
        #expect(several[1].commandTag == "UPDATE 3")
        #expect(try await connection.query("").isEmpty)
        #expect(try await connection.serverVersionNumber / 10_000 == sandbox.installation.majorVersion)
        #expect(try await connection.parameterStatus("client_encoding") == "UTF8")
      }
    }
  }

  @Test func theServersErrorHasItsStateAndLeavesTheConnectionUsable() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await PostgresConnection.withConnection(sandbox.settings, logger: logger) { connection in
        let error = await #expect(throws: DRError.self) {
          try await connection.query("SELECT 1; SELECT 1 / (generate_series - 1) FROM generate_series(0, 3)")
        }
        #expect(error?.code == .sourceFailed)
        #expect(error?.sqlState == "22012")
        #expect(error.map { "\($0)" }?.contains("division by zero") == true)
        let after = try await connection.query("SELECT 1").single
        #expect(after == "1")

        // A query that turns out to be a copy cannot be carried on with.
        await #expect(throws: DRError.self) { try await connection.query("COPY (SELECT 1) TO STDOUT") }
        #expect(await !connection.isOpen)
        let closed = await #expect(throws: DRError.self) { try await connection.query("SELECT 1") }
        #expect(closed?.message.contains("closed") == true)
      }
    }
  }

  @Test func noticesReachWhoAsks() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await PostgresConnection.withConnection(sandbox.settings, logger: logger) { connection in
        try await connection.query("DO $$BEGIN RAISE WARNING 'page % is odd', 7; END$$")
        let notices = await connection.takeNotices()
        #expect(notices.map(\.message) == ["page 7 is odd"])
        #expect(notices.first?.severity == "WARNING")
        #expect(notices.first?.sqlState == "01000")
        #expect(await connection.takeNotices().isEmpty)
      }
    }
  }

  @Test func whoIsRefusedHearsWhyAndNoPassword() async throws {
    var options = PostgresSandbox.Options()
    options.listensOnLoopback = true
    try await PostgresSandbox.withSandbox(options, logger: logger) { sandbox in
      let right = try #require(await sandbox.loopbackSettings)
      try await PostgresConnection.withConnection(right, logger: logger) {
        let answer = try await $0.query("SELECT 1").single
        #expect(answer == "1")
      }

      var wrong = right
      wrong.password = "hunter2"
      let refused = await #expect(throws: DRError.self) {
        try await PostgresConnection.connect(wrong, logger: logger)
      }
      #expect(refused?.code == .sourceFailed)
      #expect(refused?.sqlState == "28P01")
      #expect(refused.map { "\($0)" }?.contains("hunter2") == false)
      #expect(refused.map { "\($0)" }?.contains("password authentication failed") == true)

      let noDatabase = await #expect(throws: DRError.self) {
        try await PostgresConnection.connect(right.with(database: "nowhere"), logger: logger)
      }
      #expect(noDatabase?.sqlState == "3D000")

      // The password file is libpq's own business, for replication under the database name "replication".
      try await withTemporaryFolder { folder in
        let file = "\(folder)/passwords"
        try "127.0.0.1:*:replication:*:\(try #require(right.password))\n"
          .write(toFile: file, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
        var fromFile = right
        fromFile.password = nil
        fromFile.otherParameters["passfile"] = file
        try await PostgresConnection.withConnection(fromFile, replication: true, logger: logger) {
          let columns = try await $0.query("IDENTIFY_SYSTEM").columns
          #expect(columns.first == "systemid")
        }
        let none = await #expect(throws: DRError.self) {
          try await PostgresConnection.connect(fromFile, logger: logger)
        }
        #expect(none?.code == .sourceFailed)
      }

      let port = right.port
      try await sandbox.stop()
      let nobody = await #expect(throws: DRError.self) {
        try await PostgresConnection.connect(right, logger: logger)
      }
      #expect(nobody?.code == .sourceFailed)
      #expect(nobody?.sqlState == nil)
      #expect(nobody.map { "\($0)" }?.contains("\(port ?? 0)") == true)
      #expect(nobody.map { "\($0)" }?.contains(right.password ?? "") == false)
    }
  }
}

@Suite(.serialized) struct ConnectionLimitTests {
  @Test func aServerThatNeverAnswersEndsInATimeOut() async throws {
    // Bound and listening, but nobody accepts: the kernel completes the TCP handshake.
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(listener) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, length) == 0 && getsockname(listener, $0, &length) == 0
      }
    }
    try #require(bound && listen(listener, 4) == 0)

    let settings = PostgresConnectionSettings(
      host: "127.0.0.1", port: UInt16(bigEndian: address.sin_port), user: "u", password: "hunter2",
      connectTimeout: .milliseconds(300))
    let error = await #expect(throws: DRError.self) {
      try await PostgresConnection.connect(settings, logger: logger)
    }
    #expect(error?.code == .timedOut)
    #expect(error.map { "\($0)" }?.contains("connection to be established") == true)
    #expect(error.map { "\($0)" }?.contains("hunter2") == false)

    let connecting = Task {
      var patient = settings
      patient.connectTimeout = .seconds(600)
      return try await PostgresConnection.connect(patient, logger: logger)
    }
    try await Task.sleep(for: .milliseconds(100))
    connecting.cancel()
    await #expect(throws: CancellationError.self) { try await connecting.value }
  }

  @Test func aServerProcessThatHangsEndsInATimeOut() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      var settings = sandbox.settings
      settings.timeLimit = .milliseconds(300)
      let connection = try await PostgresConnection.connect(settings, logger: logger)
      let process = try await connection.serverProcessID
      try #require(kill(process, SIGSTOP) == 0)
      defer { kill(process, SIGCONT) }
      let error = await #expect(throws: DRError.self) { try await connection.query("SELECT 'hunter2'") }
      #expect(error?.code == .timedOut)
      #expect(error.map { "\($0)" }?.contains("answer to SELECT") == true)
      #expect(error.map { "\($0)" }?.contains("hunter2") == false)
      #expect(await !connection.isOpen)
    }
  }

  @Test func closingWhileEverythingHangsComesToAnEnd() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      let connection = try await PostgresConnection.connect(sandbox.settings, logger: logger)
      try await connection.send("SELECT pg_sleep(600)")
      // Not even a request to stop is answered now.
      let postmaster = try #require(await sandbox.processID)
      try #require(kill(postmaster, SIGSTOP) == 0)
      defer { kill(postmaster, SIGCONT) }
      await connection.close()
      #expect(await !connection.isOpen)
    }
  }

  @Test func cancellingAQueryEndsItInTheServer() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      let connection = try await PostgresConnection.connect(sandbox.settings, logger: logger)
      let process = try await connection.serverProcessID
      let query = Task { try await connection.query("SELECT pg_sleep(600)") }
      try await waitUntil { try await isActive(process, in: sandbox) }
      query.cancel()
      await #expect(throws: CancellationError.self) { try await query.value }
      #expect(await !connection.isOpen)
      try await waitUntil { try await !isActive(process, in: sandbox) }
    }
  }

  @Test func aCancelledTaskIsToldSoBeforeItWaits() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      let task = Task {
        withUnsafeCurrentTask { $0?.cancel() }
        return try await PostgresConnection.connect(sandbox.settings, logger: logger)
      }
      await #expect(throws: CancellationError.self) { try await task.value }
    }
  }

  @Test func aConnectionThatIsDroppedEndsItsQuery() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      let process = try await { () -> Int32 in
        let connection = try await PostgresConnection.connect(sandbox.settings, logger: logger)
        try await connection.send("SELECT pg_sleep(600)")
        return try await connection.serverProcessID
      }()
      try await waitUntil { try await !isActive(process, in: sandbox) }
    }
  }

  @Test func aServerThatIsKilledIsAnErrorAtOnce() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      let connection = try await PostgresConnection.connect(sandbox.settings, logger: logger)
      // Asked first: a call of the connection waits its turn.
      let process = try await connection.serverProcessID
      let query = Task { try await connection.query("SELECT pg_sleep(600)", limit: .seconds(600)) }
      try await waitUntil { try await isActive(process, in: sandbox) }
      try await sandbox.query("SELECT pg_terminate_backend($1::int)", ["\(process)"])
      let error = await #expect(throws: DRError.self) { try await query.value }
      #expect(error?.sqlState == "57P01")
      #expect(await !connection.isOpen)

      let next = try await PostgresConnection.connect(sandbox.settings, logger: logger)
      try await sandbox.kill()
      let gone = await #expect(throws: DRError.self) { try await next.query("SELECT 1") }
      #expect(gone?.code == .sourceFailed)
    }
  }
}

func isActive(_ process: Int32, in sandbox: PostgresSandbox) async throws -> Bool {
  try await sandbox.query(
    "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::int AND state = 'active'", ["\(process)"]
  ).single != "0"
}

/// Asks again until it is so.
func waitUntil(limit: Duration = .seconds(120), _ condition: () async throws -> Bool) async throws {
  let deadline = ContinuousClock.now + limit
  while try await !condition() {
    guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "what was waited for did not come true") }
    try await Task.sleep(for: .milliseconds(20))
  }
}
