import DRCore
import DRRabbitMQ
import DRTestSupport
import Foundation
import Testing

/// What is wrong with a broker, and the probe that must see it.
private struct ProbeDamage: Sendable {
  var name: String
  var probe: RabbitMQProbes.Probe
  /// In what the finding says.
  var subject: String
  var severity = Finding.Severity.failure
  var harm: @Sendable (TestBroker, RabbitMQSandbox) async throws -> Void
  /// What takes it back, where a vhost that is removed does not.
  var mend: @Sendable (TestBroker, RabbitMQSandbox) async throws -> Void = { _, _ in }

  private static func rename(_ vhost: String) -> String { ManagementAPI.escape(vhost) }

  private static func policy(_ pattern: String, _ definition: [String: JSONValue])
    -> @Sendable (
      TestBroker, RabbitMQSandbox
    ) async throws -> Void
  {
    { broker, _ in
      try await broker.api.put(
        "policies/\(rename(broker.vhost))/harm",
        ["pattern": .string(pattern), "definition": .object(definition), "apply-to": "queues"])
    }
  }

  static let all: [ProbeDamage] = [
    ProbeDamage(name: "a vhost that is gone", probe: .connectivity, subject: "could not be looked at") { broker, _ in
      try await broker.api.delete("vhosts/\(rename(broker.vhost))")
    },
    ProbeDamage(
      name: "a node that is short of memory", probe: .alarms, subject: "short of memory",
      harm: { _, sandbox in try await limit("1MB", sandbox) }, mend: { _, sandbox in try await limit("2GB", sandbox) }),
    ProbeDamage(
      name: "a node that is short of disk", probe: .alarms, subject: "short of disk",
      harm: { _, sandbox in try await disk("900000GB", sandbox) },
      mend: { _, sandbox in try await disk("50MB", sandbox) }),
    ProbeDamage(name: "a queue that is missing", probe: .queues, subject: "the queue is missing") { broker, _ in
      try await broker.api.delete("queues/\(rename(broker.vhost))/votes")
    },
    ProbeDamage(name: "a queue of another type", probe: .queues, subject: "was a quorum queue") { broker, _ in
      try await broker.api.delete("queues/\(rename(broker.vhost))/votes")
      try await broker.declare("votes")
    },
    ProbeDamage(name: "a message that is lost", probe: .depths, subject: "19 messages, and the backup has 20") {
      broker, _ in
      try await broker.connected { connection in
        var reading = try AMQPConnection.Reading.discarding()
        reading.wanted = 1
        try await connection.setPrefetch(1)
        try await connection.consume("orders", tag: "harm")
        _ = try await connection.take(&reading, idle: .seconds(10))
        try await connection.acknowledge(upTo: 1)
      }
    },
    ProbeDamage(name: "a message too many", probe: .depths, subject: "21 messages, and the backup has 20") {
      broker, _ in
      try await broker.publish(TestBroker.numbered(20..<21), to: "orders")
    },
    ProbeDamage(name: "a queue that is empty", probe: .depths, subject: "0 messages, and the backup has 5") {
      broker, _ in
      try await broker.api.delete("queues/\(rename(broker.vhost))/votes/contents")
    },
    ProbeDamage(name: "a queue with its messages that is missing", probe: .depths, subject: "the queue is missing") {
      broker, _ in try await broker.api.delete("queues/\(rename(broker.vhost))/votes")
    },
    ProbeDamage(name: "a binding that is gone", probe: .bindings, subject: "1 of 4 queues", severity: .notice) {
      broker, _ in
      let path = "bindings/\(rename(broker.vhost))/e/shop/q/votes"
      for binding in try await broker.api.get(path).array ?? [] {
        let key = binding.object?["properties_key"]?.string ?? ""
        try await broker.api.delete("\(path)/\(ManagementAPI.escape(key))")
      }
    },
    ProbeDamage(name: "a dead-letter exchange that is gone", probe: .deadLetters, subject: "'dead' is not there") {
      broker, _ in try await broker.api.delete("exchanges/\(rename(broker.vhost))/dead")
    },
    ProbeDamage(name: "a dead-letter exchange that leads nowhere", probe: .deadLetters, subject: "nothing is bound") {
      broker, _ in
      let path = "bindings/\(rename(broker.vhost))/e/dead/q/orders"
      for binding in try await broker.api.get(path).array ?? [] {
        let key = binding.object?["properties_key"]?.string ?? ""
        try await broker.api.delete("\(path)/\(ManagementAPI.escape(key))")
      }
    },
    ProbeDamage(name: "a queue for dead letters that is gone", probe: .deadLetters, subject: "the queue 'votes'") {
      broker, _ in try await broker.api.delete("queues/\(rename(broker.vhost))/votes")
    },
    ProbeDamage(
      name: "a broker that loses messages", probe: .roundTrip, subject: "did not",
      harm: policy("^dr[.]probe[.]", ["max-length": 0, "overflow": "drop-head"])),
    ProbeDamage(
      name: "a broker that lets messages end", probe: .roundTrip, subject: "did not",
      harm: policy("^dr[.]probe[.]", ["message-ttl": 0])),
    ProbeDamage(
      name: "a broker that refuses messages", probe: .roundTrip, subject: "did not reach it",
      harm: policy("^dr[.]probe[.]", ["max-length": 0, "overflow": "reject-publish"])),
  ]

  private static func limit(_ limit: String, _ sandbox: RabbitMQSandbox) async throws {
    let result = try await sandbox.run("rabbitmqctl", ["set_vm_memory_high_watermark", "absolute", limit])
    try #require(result.status == 0, "\(result)")
  }

  private static func disk(_ limit: String, _ sandbox: RabbitMQSandbox) async throws {
    let result = try await sandbox.run("rabbitmqctl", ["set_disk_free_limit", limit])
    try #require(result.status == 0, "\(result)")
  }
}

/// A broker of its own: some of the damages are the whole node's.
@Suite(.serialized) struct RabbitMQProbeDamageTests {
  /// Two queues with messages, one with a consumer, one that gives up to an exchange, one that gives up to a queue.
  private static func fill(_ broker: TestBroker) async throws {
    let vhost = ManagementAPI.escape(broker.vhost)
    try await broker.declare("orders")
    try await broker.declare("votes", "quorum")
    for exchange in ["shop", "dead"] {
      try await broker.api.put("exchanges/\(vhost)/\(exchange)", ["type": "topic", "durable": true])
    }
    try await broker.declare("giving", "classic", ["x-dead-letter-exchange": .string("dead")])
    try await broker.declare(
      "passing", "classic", ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("votes")])
    for (exchange, queue) in [
      ("shop", "orders"), ("shop", "votes"), ("shop", "giving"), ("shop", "passing"), ("dead", "orders"),
    ] {
      try await broker.api.post("bindings/\(vhost)/e/\(exchange)/q/\(queue)", ["routing_key": "#"])
    }
    try await broker.publish(TestBroker.numbered(0..<20), to: "orders")
    try await broker.publish(TestBroker.numbered(0..<5), to: "votes")
  }

  @Test("Each damage of a broker is noticed by the probe that is for it, and by nothing before it was done")
  func damages() async throws {
    try await RabbitMQSandbox.withSandbox(logger: TestBroker.logger) { sandbox in
      var sought: Set<RabbitMQProbes.Probe> = []
      for damage in ProbeDamage.all {
        let broker = TestBroker(settings: sandbox.settings, vhost: "harm-\(UUID().uuidString.prefix(8))")
        try await broker.makeVHost()
        try await Self.fill(broker)
        try await TestBroker.withRepository { repository, _ in
          let manifest = try await TestBroker.backUp(broker.source(), to: repository)
          func look() async throws -> [Finding] {
            try await RabbitMQProbes(
              broker.settings, manifest: manifest, probes: [damage.probe], vhost: broker.vhost
            ).verify(logger: TestBroker.logger)
          }
          func isNoticed(_ findings: [Finding]) -> Bool {
            findings.contains { $0.severity >= damage.severity && "\($0)".contains(damage.subject) }
          }
          try await TestBroker.eventually("nothing to be seen before \(damage.name)") {
            let findings = try await look()
            return findings.allSatisfy { $0.severity == .passed }
          }
          try await damage.harm(broker, sandbox)
          do {
            // What the broker says of itself comes with its statistics, every few seconds.
            try await TestBroker.eventually("\(damage.name) to be noticed", within: .seconds(30)) {
              let findings = try await look()
              return isNoticed(findings)
            }
          } catch {
            try? await damage.mend(broker, sandbox)
            throw error
          }
          try await damage.mend(broker, sandbox)
          // An alarm is known to the statistics for some seconds more.
          try await TestBroker.eventually("the node to be well again") {
            let findings = try await RabbitMQProbes(broker.settings, probes: [.alarms]).verify(
              logger: TestBroker.logger)
            return findings.allSatisfy { $0.severity == .passed }
          }
        }
        if damage.probe != .connectivity { try await broker.removeVHost() }
        sought.insert(damage.probe)
      }
      // Nodes and members that are gone need a cluster (SandboxTests), consumers one who consumes (below).
      #expect(Set(RabbitMQProbes.Probe.allCases).subtracting(sought) == [.cluster, .quorum, .consumers])
    }
  }

  @Test("Consumers that were there at the backup and are gone are missed")
  func consumers() async throws {
    try await RabbitMQSandbox.withSandbox(logger: TestBroker.logger) { sandbox in
      try await TestBroker.with(sandbox.settings) { broker in
        try await broker.declare("orders")
        try await TestBroker.withRepository { repository, _ in
          func look(_ manifest: BackupManifest) async throws -> [Finding] {
            try await RabbitMQProbes(broker.settings, manifest: manifest, probes: [.consumers], vhost: broker.vhost)
              .verify(logger: TestBroker.logger)
          }
          let manifest = try await broker.connected { connection in
            try await connection.consume("orders", tag: "worker")
            try await TestBroker.eventually("the broker knows of the consumer") {
              try await broker.find("orders").consumers == 1
            }
            let manifest = try await TestBroker.backUp(broker.source(), to: repository)
            #expect(try await look(manifest).map(\.severity) == [.passed])
            return manifest
          }
          try await TestBroker.eventually("it to be missed") {
            let findings = try await look(manifest)
            return findings.contains {
              $0.severity == .warning && $0.evidence == "no consumer, and 1 when it was backed up"
            }
          }
        }
      }
    }
  }
}
