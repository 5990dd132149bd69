import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// Definitions that a broker cannot take as they are, on a broker that has lost plugins.
extension RabbitMQSandboxTests {
  @Test(
    "What a broker has no plugin for is said before anything is done; what it refuses is named; harmless connects to nobody"
  )
  func definitionsWithoutTheirPlugins() async throws {
    let plugins = ["rabbitmq_consistent_hash_exchange", "rabbitmq_federation"]
    var options = RabbitMQSandbox.Options()
    options.plugins = plugins
    try await RabbitMQSandbox.withSandbox(options, logger: TestBroker.logger) { sandbox in
      let broker = TestBroker(settings: sandbox.settings, vhost: "upstream")
      let ring = TestBroker(settings: sandbox.settings, vhost: "ring")
      for one in [broker, ring] { try await one.makeVHost() }
      try await ring.api.put("exchanges/ring/spread", ["type": "x-consistent-hash", "durable": true])
      let upstream = "parameters/federation-upstream/upstream/far"
      try await broker.api.put(upstream, ["value": ["uri": "amqp://far:hunter2@127.0.0.1:1"]])
      try await TestBroker.withRepository { repository, _ in
        var source = RabbitMQDefinitionsSource(component: try Component(.rabbitmq, "test"), broker: broker.settings)
        await expectError {
          try await TestBroker.backUp(source, to: repository)
        } matching: {
          "\($0)".contains("far") && "\($0)".contains("not encrypted") && !"\($0)".contains("hunter2")
        }
        source.allowsClearSecrets = true
        try await Self.expect(plugins, enabled: true, on: broker)
        let manifest = try await TestBroker.backUp(source, to: repository)
        let reader = repository.reader(for: manifest)
        for one in [broker, ring] { try await one.removeVHost() }
        let disabled = try await sandbox.run("rabbitmq-plugins", ["disable"] + plugins)
        try #require(disabled.status == 0, "\(disabled)")
        try await Self.expect(plugins, enabled: false, on: broker)
        // The user that restores is another than it was in the backup.
        let me = broker.settings.user
        try await broker.api.put(
          "users/\(me)", ["password": .string(broker.settings.password), "tags": "administrator,changed"])

        var restorer = RabbitMQDefinitionsRestorer(broker: broker.settings)
        let plan = try await restorer.plan(from: reader, logger: TestBroker.logger)
        func findings(_ check: String) -> [Finding] { plan.findings.filter { $0.check == check } }
        let noted = findings("definitions-plugins")
        let missing = noted.first { $0.severity == .failure }?.evidence ?? ""
        #expect(missing.contains("'x-consistent-hash'"))
        let warned = noted.first { $0.severity == .warning }?.evidence ?? ""
        #expect(warned.contains("rabbitmq_federation") && warned.contains("rabbitmq_consistent_hash_exchange"))
        #expect(findings("definitions-own-user").map(\.subject) == [me])
        await expectError {
          try await restorer.run(from: reader, logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .destinationInUse && "\($0)".contains("no exchange type 'x-consistent-hash'")
        }
        let vhosts = (try await broker.api.get("vhosts").array ?? []).map { $0.object?["name"]?.string }
        #expect(vhosts == ["/"])

        // The broker would take everything before the parameters, and end there.
        restorer.vhosts = ["upstream"]
        await expectError {
          try await restorer.run(from: reader, logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .destinationInUse && "\($0)".contains("the plugin rabbitmq_federation")
            && "\($0)".contains("--harmless") && !"\($0)".contains("hunter2")
        }
        let still = (try await broker.api.get("vhosts").array ?? []).map { $0.object?["name"]?.string }
        #expect(still == ["/"])
        restorer.isHarmless = true
        let report = try await restorer.run(from: reader, logger: TestBroker.logger)
        #expect(!report.hasFailures, "\(report.findings)")
        let left = report.findings.first { $0.check == "definitions-harmless" }?.evidence ?? ""
        #expect(left.contains("far"))
        #expect(try await broker.api.find(upstream) == nil)
        // Nobody was locked out.
        let tags = try await broker.api.get("users/\(me)").object?["tags"]
        #expect("\(tags ?? .null)".contains("changed"))
      }
    }
  }

  /// What the broker says of its plugins is some seconds old.
  private static func expect(_ plugins: [String], enabled: Bool, on broker: TestBroker) async throws {
    try await TestBroker.eventually("the broker says what is enabled") {
      let told = Set(try await BrokerFacts(broker.api).nodes.flatMap(\.enabledPlugins))
      return plugins.allSatisfy { told.contains($0) == enabled }
    }
  }
}
