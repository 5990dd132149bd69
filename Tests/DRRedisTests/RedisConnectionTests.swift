import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore
import Testing

@Suite(.serialized) struct RedisConnectionTests {
  @Test func commandsByBothProtocols() async throws {
    try await RedisFixture.withServer { server in
      for version in [2, 3] {
        try await RedisConnection.withConnection(server.settings, protocol: version, logger: RedisFixture.logger) {
          connection in
          #expect(try await connection.command("PING") == .simple("PONG"))
          let binary = ByteBuffer(bytes: (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
          var commands = ByteBuffer()
          commands.writeRESPCommand([ByteBuffer(string: "SET"), ByteBuffer(string: "binary"), binary])
          commands.writeRESPCommand(["HSET", "hash", "a", "1", "b", "2"])
          for _ in 0..<1000 { commands.writeRESPCommand(["INCR", "counter"]) }
          commands.writeRESPCommand(["GET", "binary"])
          try await connection.write(commands)
          let replies = try await connection.replies(1003)
          #expect(replies[0].isOK && replies[1002] == .bulk(binary))
          #expect(replies[1001].integer == (version == 2 ? 1000 : 2000))
          let pairs = try await connection.command("HGETALL", "hash")
          #expect(pairs.textPairs == ["a": "1", "b": "2"])
          if version == 3 { if case .map = pairs {} else { Issue.record("no map") } }
          let error = try await #require(throws: DRError.self) { try await connection.command("LPUSH", "hash", "x") }
          #expect(error.redisError?.kind == "WRONGTYPE" && error.code == .sourceFailed)
          // It is still good.
          #expect(try await connection.command("PING") == .simple("PONG"))
        }
      }
    }
  }

  /// Every wait ends: a server that hangs, one that is not there, one that is something else.
  @Test func everyWaitHasAnEnd() async throws {
    try await RedisFixture.withServer { server in
      var settings = server.settings
      settings.timeLimit = .milliseconds(200)
      try await RedisConnection.withConnection(settings, logger: RedisFixture.logger) { connection in
        let error = try await #require(throws: DRError.self) { try await connection.command("BLPOP", "nothing", "0") }
        #expect(error.code == .timedOut)
      }
      let waiting = Task {
        try await RedisConnection.withConnection(server.settings, logger: RedisFixture.logger) {
          try await $0.command("BLPOP", "nothing", "0")
        }
      }
      try await RedisFixture.eventually("the command to block") {
        try await RedisFixture.info(server, "clients").integer("blocked_clients") == 1
      }
      waiting.cancel()
      await #expect(throws: CancellationError.self) { _ = try await waiting.value }
    }
    let gone = RedisConnectionSettings(socket: "/tmp/there-is-no-such-socket-\(UUID().uuidString.prefix(8))")
    let error = try await #require(throws: DRError.self) {
      _ = try await RedisConnection.connect(gone, logger: RedisFixture.logger)
    }
    #expect(error.code == .sourceFailed && error.advice != nil)
  }

  @Test func signsOnAsAUser() async throws {
    try await RedisFixture.withServer { server in
      try await server.command("ACL", "SETUSER", "backup", "on", ">geheim", "+ping")
      try await withTemporaryFolder { folder in
        let file = folder + "/password"
        try "geheim\n".write(toFile: file, atomically: true, encoding: .utf8)
        var settings = server.settings
        settings.user = "backup"
        settings.password = .file(file)
        chmod(file, 0o644)
        let open = try #require(throws: DRError.self) { _ = try RedisPassword.file(file).read() }
        #expect(open.code == .invalidConfiguration)
        chmod(file, 0o600)
        try await RedisConnection.withConnection(settings, logger: RedisFixture.logger) { connection in
          #expect(try await connection.command("PING") == .simple("PONG"))
          let error = try await #require(throws: DRError.self) { try await connection.command("GET", "key") }
          #expect(error.redisError?.kind == "NOPERM")
        }
        settings.password = .value("falsch")
        let error = try await #require(throws: DRError.self) {
          _ = try await RedisConnection.connect(settings, logger: RedisFixture.logger)
        }
        #expect(error.redisError?.kind == "WRONGPASS" && !"\(error)".contains("falsch"))
      }
    }
  }

  @Test func speaksTLSWithItsOwnAuthority() async throws {
    var options = RedisFixture.options()
    options.tls = true
    try await RedisFixture.withServer(options) { server in
      try await RedisFixture.fill(server)
      #expect(try await server.command("PING") == .simple("PONG"))
      // Without the authority the server is not believed, without a certificate the client is not.
      for change in [
        { (tls: inout RedisConnectionSettings.TLS) in tls.authorityFile = nil },
        { tls in
          tls.certificateFile = nil
          tls.keyFile = nil
        },
      ] as [(inout RedisConnectionSettings.TLS) -> Void] {
        var settings = server.settings
        if var tls = settings.tls {
          change(&tls)
          settings.tls = tls
        }
        let error = try await #require(throws: DRError.self) {
          try await RedisConnection.withConnection(settings, logger: RedisFixture.logger) {
            try await $0.command("PING")
          }
        }
        #expect(error.code == .sourceFailed && error.advice?.contains("(--ca)") == true, "\(error)")
      }
      try await RedisFixture.withRepository { repository, _ in
        let manifest = try await repository.backUp(
          RedisSnapshot(component: try RedisFixture.component(), server: server.settings), cadence: .daily,
          logger: RedisFixture.logger)
        #expect(manifest.properties["keys"]?.integer ?? 0 > 300)
      }
    }
  }
}
