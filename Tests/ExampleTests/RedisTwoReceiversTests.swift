import DRCore
import DRRedis
import DRTestSupport
import Foundation
import Logging
import Testing

/// `dr-redis receive`, twice on one component, and with a password that changes.
@Suite(.serialized) struct RedisTwoReceiversTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private static func with(_ body: (ProgramPlace, RedisSandbox, String) async throws -> Void) async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      try #require(try await place.run("init").status == 0)
      var options = RedisSandbox.Options(settings: ["repl-diskless-sync-delay": "0", "repl-backlog-size": "64mb"])
      options.listensOnLoopback = true
      try await RedisSandbox.withSandbox(options, logger: logger) { server in
        try await body(place, server, "redis://127.0.0.1:\(try #require(server.nodes[0].port))")
      }
    }
  }

  private static func receive(_ place: ProgramPlace, _ number: Int, _ arguments: [String]) throws -> ChildProcess {
    try ChildProcess(
      place.program, place.arguments(["receive", "--partial-interval", "0.1"] + arguments),
      output: place.folder + "/receiver-\(number).log")
  }

  @Test(
    "A second receiver is refused; one that was killed keeps nobody out; one that stood still and was replaced ends")
  func two() async throws {
    try await Self.with { place, server, address in
      let life = ["--lease-seconds", "2", "--server", address]
      let first = try Self.receive(place, 1, life)
      try await eventually("the snapshot") { first.said.contains("committed") }
      let second = try Self.receive(place, 2, life + ["--patience", "1"])
      #expect(try await second.wait() == 2)
      #expect(
        second.said.contains("another receiver stores the changes of redis/test in this repository"), "\(second.said)")

      first.signal(SIGKILL)
      _ = try await first.wait()
      let begin = ContinuousClock.now
      let third = try Self.receive(place, 3, life)
      try await eventually("the next to go on") { third.said.contains("goes on after offset") }
      let waited = begin.duration(to: .now)
      print("after kill -9 of one with a lease of 2 s the next went on after \(waited)")
      #expect(waited < .seconds(6), "\(waited)")

      third.signal(SIGSTOP)
      let fourth = try Self.receive(place, 4, life)
      try await eventually("the next to go on") { fourth.said.contains("goes on after offset") }
      try await server.command("SET", "a", "1")
      third.signal(SIGCONT)
      #expect(try await third.wait() == 2)
      #expect(third.said.contains("this one stores nothing more"), "\(third.said)")
      #expect(!first.said.contains("GAP") && !third.said.contains("GAP") && !fourth.said.contains("GAP"))
      fourth.signal(SIGTERM)
      #expect(try await fourth.wait() == 0, "\(fourth.said)")
      let check = try await place.run("check", "--repository-only")
      #expect(check.status == 0, "\(check.output)\(check.error)")
    }
  }

  @Test("A password that is changed on the server and then in the file ends no receiver; one that never comes does")
  func rotated() async throws {
    try await Self.with { place, server, address in
      let file = place.folder + "/password"
      func write(_ password: String) throws {
        try password.write(toFile: file, atomically: true, encoding: .utf8)
        chmod(file, 0o600)
      }
      try write("first")
      try await server.command("ACL", "SETUSER", "app", "on", ">first", "+@all", "~*", "&*")
      let place2 = address.replacingOccurrences(of: "//", with: "//app@")
      let receiver = try Self.receive(place, 1, ["--server", place2, "--password-file", file])
      try await eventually("the snapshot") { receiver.said.contains("committed") }
      try await server.command("ACL", "SETUSER", "app", "resetpass", ">second")
      try await server.command("CLIENT", "KILL", "TYPE", "replica")
      try await eventually("it to be refused") { receiver.said.contains("WRONGPASS") }
      try await Task.sleep(for: .seconds(2))
      #expect(!receiver.said.contains("goes on after offset"))
      try write("second")
      try await eventually("it to go on") { receiver.said.contains("goes on after offset") }
      #expect(!receiver.said.contains("GAP"), "\(receiver.said)")
      receiver.signal(SIGTERM)
      #expect(try await receiver.wait() == 0, "\(receiver.said)")
      // Not at its start; and a variable cannot change.
      try write("third")
      let refused = try Self.receive(place, 2, ["--server", place2, "--password-file", file])
      #expect(try await refused.wait() == 2)
      #expect(refused.said.contains("the password file \(file)"), "\(refused.said)")
    }
  }
}
