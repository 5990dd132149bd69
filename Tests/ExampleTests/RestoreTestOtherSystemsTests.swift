import DRCore
import DRRabbitMQ
import DRRedis
import DRTestSupport
import Foundation
import Logging
import Testing

/// `dr-verify restore-test` and `negative-control` of Redis and RabbitMQ, together, on real servers.
@Suite(.serialized) struct RestoreTestOtherSystemsTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private static func verify(_ arguments: [String], in folder: String) async throws -> (Int32, [Finding], String) {
    let result = try await runCommand(
      ReceiverProcess.built("dr-verify"), arguments + ["--json"], workingDirectory: folder, timeLimit: .seconds(400))
    struct Report: Decodable { var findings: [Finding] }
    let report = try? JSONDecoder().decode(Report.self, from: Data(result.output))
    return (result.status, report?.findings ?? [], String(decoding: result.output, as: UTF8.self) + result.error)
  }

  @Test("Redis and RabbitMQ come back side by side; a truncated RDB and a lost message are noticed")
  func both() async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/cache") { redis in
      try await ProgramPlace.with("dr-rabbitmq", component: "rabbitmq/broker") { rabbit in
        try await Self.backUpRedis(redis)
        try await Self.backUpRabbitMQ(rabbit)
        let both = ["--config", redis.config, "--config", rabbit.config]
        let (status, findings, text) = try await Self.verify(
          ["restore-test", "--baseline", redis.folder + "/baseline.json"] + both, in: redis.folder)
        #expect(status == 0, "\(text)")
        func severities(_ check: String, _ component: String) -> Set<Finding.Severity> {
          Set(findings.filter { $0.check == check && $0.subject.hasPrefix(component) }.map(\.severity))
        }
        for check in ["restore", "connectivity", "key-counts", "samples", "hits", "restore-time", "sandbox-removed"] {
          #expect(severities(check, "redis/cache").contains(.passed), "\(check)")
        }
        for check in ["restore", "connectivity", "queues", "depths", "round-trip", "restore-time", "sandbox-removed"] {
          #expect(severities(check, "rabbitmq/broker").contains(.passed), "\(check)")
        }
        let list = findings.filter { $0.check == "checklist" }
        #expect(list.count == 15)
        let passed = list.filter { $0.severity == .passed }.map { String($0.subject.prefix { $0 != "." }) }
        #expect(passed == ["13", "14"], "\(list)")

        let control = try await Self.verify(["negative-control"] + both, in: redis.folder)
        #expect(control.0 == 0, "\(control.2)")
        for damage in ["a flipped byte: redis/", "a flipped byte: rabbitmq/", "a truncated RDB", "a lost message: "] {
          #expect(
            control.1.contains { $0.subject.hasPrefix(damage) && $0.severity == .passed }, "\(damage): \(control.2)")
        }
      }
    }
  }

  private static func backUpRedis(_ place: ProgramPlace) async throws {
    var options = RedisSandbox.Options()
    options.listensOnLoopback = true
    try await RedisSandbox.withSandbox(options, logger: logger) { server in
      for number in 0..<200 { try await server.command("SET", "key:\(number)", "value \(number)") }
      try await server.command("HSET", "agent", "name", "one", "state", "idle")
      let address = "redis://127.0.0.1:\(try #require(server.nodes[0].port))"
      let baseline = try await runCommand(ReceiverProcess.built("dr-verify"), ["baseline", "--redis", address])
      #expect(baseline.status == 0, "\(baseline.error)")
      try Data(baseline.output).write(to: URL(filePath: place.folder + "/baseline.json"))
      #expect(try await place.run("init").status == 0)
      let backup = try await place.run("backup", "--server", address)
      #expect(backup.status == 0, "\(backup)")
    }
  }

  private static func backUpRabbitMQ(_ place: ProgramPlace) async throws {
    try await RabbitMQSandbox.withSandbox(logger: logger) { broker in
      let api = ManagementAPI(broker.settings)
      for type in ["classic", "quorum"] {
        try await api.put(
          "queues/%2F/\(type)", ["durable": true, "auto_delete": false, "arguments": ["x-queue-type": .string(type)]])
        for number in 0..<25 {
          try await api.post(
            "exchanges/%2F/amq.default/publish",
            [
              "properties": ["delivery_mode": 2], "routing_key": .string(type), "payload": .string("task \(number)"),
              "payload_encoding": "string",
            ])
        }
      }
      let password = place.folder + "/password"
      try broker.settings.password.write(toFile: password, atomically: true, encoding: .utf8)
      chmod(password, 0o600)
      #expect(try await place.run("init").status == 0)
      let backup = try await place.run(
        "backup", "--allow-clear-secrets", "--broker", "127.0.0.1:\(broker.settings.port)", "--management-port",
        "\(broker.settings.managementPort)", "--user", broker.settings.user, "--password-file", password)
      #expect(backup.status == 0, "\(backup)")
    }
  }
}
