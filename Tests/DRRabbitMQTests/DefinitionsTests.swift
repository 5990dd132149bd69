import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import NIOCore
import Testing

extension RabbitMQTests {
  /// Definitions of every kind in a vhost of a test's own.
  private static func fill(_ broker: TestBroker) async throws -> String {
    let vhost = broker.vhost
    let user = "app-\(vhost)"
    let api = broker.api
    // What is there already keeps its description.
    try await broker.removeVHost()
    try await api.put("vhosts/\(vhost)", ["description": "of a test", "tags": "one,two"])
    try await broker.permit()
    try await api.put("users/\(user)", ["password": "app-secret", "tags": "monitoring"])
    try await api.put("permissions/\(vhost)/\(user)", ["configure": "^app", "write": ".*", "read": ".*"])
    try await api.put(
      "topic-permissions/\(vhost)/\(user)", ["exchange": "amq.topic", "write": "^a", "read": ".*"])
    try await api.put(
      "policies/\(vhost)/ttl",
      ["pattern": "^short", "definition": ["message-ttl": 60_000], "priority": 1, "apply-to": "queues"])
    try await api.put(
      "operator-policies/\(vhost)/cap",
      ["pattern": "^cap", "definition": ["max-length": 1000], "priority": 0, "apply-to": "queues"])
    try await api.put("vhost-limits/\(vhost)/max-queues", ["value": 100])
    try await api.put(
      "exchanges/\(vhost)/inner",
      ["type": "headers", "durable": true, "auto_delete": false, "internal": true, "arguments": [:]])
    try await api.put(
      "exchanges/\(vhost)/outer",
      [
        "type": "topic", "durable": true, "auto_delete": false, "internal": false,
        "arguments": ["alternate-exchange": "inner"],
      ])
    for (name, arguments) in [
      ("classic", ["x-max-priority": 5]), ("quorum", ["x-queue-type": "quorum", "x-delivery-limit": 7]),
      ("stream", ["x-queue-type": "stream", "x-max-age": "7D"]),
      ("dead", ["x-dead-letter-exchange": "outer", "x-dead-letter-routing-key": "gone", "x-message-ttl": 5000]),
    ] as [(String, [String: JSONValue])] {
      try await api.put(
        "queues/\(vhost)/\(name)", ["durable": true, "auto_delete": false, "arguments": .object(arguments)])
    }
    try await api.post(
      "bindings/\(vhost)/e/inner/q/classic",
      ["routing_key": "", "arguments": ["x-match": "all", "kind": "order", "level": 3]])
    try await api.post("bindings/\(vhost)/e/outer/e/inner", ["routing_key": "a.#", "arguments": [:]])
    try await api.post("bindings/\(vhost)/e/outer/q/quorum", ["routing_key": "b.*", "arguments": [:]])
    return user
  }

  @Test("Definitions of every kind go into a backup and come back to the same values")
  func definitionsRoundTrip() async throws {
    try await TestBroker.with { broker in
      let user = try await Self.fill(broker)
      try await TestBroker.withRepository { repository, _ in
        var source = RabbitMQDefinitionsSource(component: try Component(.rabbitmq, "test"), broker: broker.settings)
        source.vhosts = [broker.vhost]
        let manifest = try await TestBroker.backUp(source, to: repository)
        #expect(manifest.serverVersion?.isEmpty == false && manifest.systemIdentifier?.isEmpty == false)
        let reader = repository.reader(for: manifest)
        let stored = String(
          buffer: try await reader.read(manifest.artifact("definitions.json")).collect(limit: 1 << 20))
        #expect(!stored.contains("internal_cluster_id") && stored.contains("password_hash"))

        try await broker.removeVHost()
        try await broker.api.delete("users/\(user)")
        let restorer = RabbitMQDefinitionsRestorer(broker: broker.settings, vhosts: [broker.vhost])
        let plan = try await restorer.plan(from: reader, logger: TestBroker.logger)
        #expect(plan.diff.entries(.add).contains { $0.kind == .vhosts && $0.name == broker.vhost })
        #expect(try await broker.api.find("vhosts/\(broker.vhost)") == nil, "a plan changes nothing")
        let report = try await restorer.run(from: reader, logger: TestBroker.logger)
        #expect(!report.hasFailures, "\(report.findings)")
        let after = try await restorer.plan(from: reader, logger: TestBroker.logger)
        #expect(after.diff.entries.isEmpty, "\(after.diff.entries)")
        let vhost = try await broker.api.get("vhosts/\(broker.vhost)").object
        #expect(vhost?["description"] == "of a test" && vhost?["tags"] == ["one", "two"])
        let policy = try await broker.api.get("operator-policies/\(broker.vhost)/cap").object
        #expect(policy?["definition"] == ["max-length": 1000])
        // The password works.
        var settings = broker.settings
        (settings.user, settings.password) = (user, "app-secret")
        try await AMQPConnection.withConnection(settings, vhost: broker.vhost, logger: TestBroker.logger) { _ in }
      }
      try await broker.api.delete("users/\(user)")
    }
  }

  @Test("A queue that is there with other arguments is a conflict, which the broker would pass over in silence")
  func conflictingDefinitions() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders", "classic", ["x-max-length": .int32(5)])
      try await broker.declare("kind", "classic")
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        for queue in ["orders", "kind"] { try await broker.connected { try await $0.deleteQueue(queue) } }
        try await broker.declare("orders", "classic", ["x-max-length": .int32(6)])
        try await broker.declare("kind", "quorum")
        try await broker.declare("extra")
        let restorer = RabbitMQDefinitionsRestorer(broker: broker.settings, vhosts: [broker.vhost])
        let reader = repository.reader(for: manifest)
        let plan = try await restorer.plan(from: reader, logger: TestBroker.logger)
        let conflicts = plan.diff.entries(.conflict)
        #expect(conflicts.count == 2)
        #expect(
          conflicts.contains { $0.detail.contains("\"x-max-length\":6") && $0.detail.contains("\"x-max-length\":5") })
        #expect(plan.diff.entries(.extra).contains { $0.name == "\(broker.vhost) extra" })
        await expectError {
          try await restorer.run(from: reader, logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .destinationInUse
        }
      }
    }
  }

  @Test("An exact restore removes what the backup does not have, but no queue that holds messages")
  func exactDefinitions() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("kept")
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        let user = try await Self.fill(broker)
        try await broker.declare("kept")
        try await broker.publish(TestBroker.numbered(0..<1), to: "classic")
        // The user is one of another vhost too, and a parameter is the broker's: neither is this vhost's to remove.
        let parameter = "kept-\(broker.vhost)"
        try await broker.api.put("global-parameters/\(parameter)", ["name": .string(parameter), "value": 1])
        let reader = repository.reader(for: manifest)
        // Also where no vhost is named: the backup is of one, and says nothing of the others.
        var whole = RabbitMQDefinitionsRestorer(broker: broker.settings, mode: .exact)
        let others = try await whole.plan(from: reader, logger: TestBroker.logger).diff.entries(.extra)
        let named = try await RabbitMQDefinitionsRestorer(
          broker: broker.settings, mode: .exact, vhosts: [broker.vhost]
        ).plan(from: reader, logger: TestBroker.logger).diff.entries(.extra)
        try #require(others == named && !others.isEmpty, "\(others)")
        // Nothing is removed for a backup that is damaged, in its messages too.
        let messages = try #require(manifest.artifacts.first { $0.name.hasPrefix("messages-") })
        let damaged = Repository(
          tier: DamagedTier(repository.tier, damaging: messages.key, at: messages.storedSize / 2))
        await expectError {
          try await whole.run(from: damaged.reader(for: manifest), logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .corruptData
        }
        whole.mode = .merge
        #expect(try await whole.plan(from: reader, logger: TestBroker.logger).diff.entries(.extra) == others)
        var restorer = RabbitMQDefinitionsRestorer(broker: broker.settings, vhosts: [broker.vhost])
        let merged = try await restorer.run(from: reader, logger: TestBroker.logger)
        #expect(!merged.hasFailures && merged.findings.contains { $0.check == "definitions-extra" })
        restorer.mode = .exact
        await expectError {
          try await restorer.run(from: reader, logger: TestBroker.logger)
        } matching: { error in
          (error as? DRError)?.code == .destinationInUse && "\(error)".contains("holds messages")
        }
        #expect(try await broker.depth("classic") == 1)
        try await broker.api.delete("queues/\(broker.vhost)/classic/contents")
        // Of a stream the broker's statistics do not know for some seconds that it holds some.
        try await broker.declare("young-stream", "stream")
        try await broker.publish(TestBroker.numbered(0..<5), to: "young-stream")
        await expectError {
          try await restorer.run(from: reader, logger: TestBroker.logger)
        } matching: { error in
          (error as? DRError)?.code == .destinationInUse && "\(error)".contains("young-stream")
        }
        #expect(try await broker.dump("young-stream").count == 5)
        try await broker.api.delete("queues/\(broker.vhost)/young-stream")
        let report = try await restorer.run(from: reader, logger: TestBroker.logger)
        #expect(!report.hasFailures, "\(report.findings)")
        let after = try await restorer.plan(from: reader, logger: TestBroker.logger)
        #expect(after.diff.entries.isEmpty, "\(after.diff.entries)")
        #expect(try await broker.api.find("users/\(user)") != nil)
        #expect(try await broker.api.find("permissions/\(broker.vhost)/\(user)") == nil)
        #expect(try await broker.api.find("global-parameters/\(parameter)") != nil)
        try await broker.api.delete("global-parameters/\(parameter)")
        try await broker.api.delete("users/\(user)")
      }
    }
  }

  @Test(
    "A queue that is not fit for its messages is refused before definitions are restored, one that is to be made is not"
  )
  func occupied() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("held")
      try await broker.declare("gone", "stream")
      try await TestBroker.withRepository { repository, folder in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        let reader = repository.reader(for: manifest)
        try await broker.api.delete("queues/\(broker.vhost)/gone")
        var restorer = broker.restorer()
        try await restorer.refuseOccupied(reader, logger: TestBroker.logger)
        try await broker.publish(TestBroker.numbered(0..<3), to: "held")
        await expectError {
          try await restorer.refuseOccupied(reader, logger: TestBroker.logger)
        } matching: { error in
          (error as? DRError)?.code == .destinationInUse && "\(error)".contains("not-empty")
        }
        restorer.overrides = [.notEmpty]
        try await restorer.refuseOccupied(reader, logger: TestBroker.logger)
        // What a killed restore has brought is its own.
        restorer.overrides = []
        restorer.journalFolder = folder
        let record = try #require(RabbitMQQueueRecord.all(of: manifest).first { $0.name == "held" })
        try Data().write(to: URL(fileURLWithPath: "\(folder)/\(record.artifact).journal"))
        try await restorer.refuseOccupied(reader, logger: TestBroker.logger)
      }
    }
  }

  @Test("Passwords in clear are refused without encryption, and stored with it")
  func clearSecrets() async throws {
    try await TestBroker.withRepository { repository, _ in
      let component = try Component(.rabbitmq, "test")
      let settings = try #require(TestBroker.current).settings
      let name = "secret-\(UUID().uuidString.prefix(6))"
      let api = ManagementAPI(settings)
      try await api.put(
        "global-parameters/\(name)", ["name": .string(name), "value": ["uri": "amqp://shovel:hunter2@far.example"]])
      let source = RabbitMQDefinitionsSource(component: component, broker: settings)
      await expectError {
        try await TestBroker.backUp(source, to: repository)
      } matching: { error in
        let text = "\(error)"
        return text.contains(name) && text.contains("not encrypted") && !text.contains("hunter2")
      }
      let identity = AgeIdentity.generate()
      let recipient = try #require(identity.recipient)
      let manifest = try await TestBroker.backUp(
        source, to: repository, encoding: Encoding(recipients: [recipient]))
      let reader = repository.reader(for: manifest, decoding: Decoding(identities: [identity]))
      let text = String(buffer: try await reader.read(manifest.artifact("definitions.json")).collect(limit: 1 << 20))
      #expect(text.contains("hunter2"))
      var allowed = source
      allowed.allowsClearSecrets = true
      _ = try await TestBroker.backUp(allowed, to: repository)
      try await api.delete("global-parameters/\(name)")
    }
  }

  @Test("What the broker refuses, or cannot be reached for, is named and holds no secret")
  func errors() async throws {
    let sandbox = try #require(TestBroker.current)
    var settings = sandbox.settings
    settings.password = "wrong-secret"
    await expectError {
      try await ManagementAPI(settings).get("overview")
    } matching: {
      ($0 as? DRError)?.rabbitMQCode == 401 && !"\($0)".contains("wrong-secret")
    }
    await expectError {
      try await AMQPConnection.withConnection(settings, vhost: "/", logger: TestBroker.logger) { _ in }
    } matching: {
      ($0 as? DRError)?.code == .sourceFailed && !"\($0)".contains("wrong-secret")
    }
    settings.port = 1
    settings.managementPort = 1
    await expectError {
      try await ManagementAPI(settings).get("overview")
    } matching: {
      "\($0)".contains("rabbitmq_management")
    }
    #expect(!"\(settings)".contains("wrong-secret") && !String(reflecting: settings).contains("wrong-secret"))
    try await TestBroker.with { broker in
      await expectError {
        try await broker.connected { try await $0.depth(of: "missing") }
      } matching: {
        ($0 as? DRError)?.rabbitMQCode == 404
      }
    }
  }
}
