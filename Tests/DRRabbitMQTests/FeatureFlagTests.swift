import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// Definitions for which a broker lacks feature flags.
extension RabbitMQSandboxTests {
  @Test(
    "Feature flags that definitions need are asked for before anything is imported, each with the command that enables it"
  )
  func missingFeatureFlags() async throws {
    let missing = ["stream_queue", "user_limits", "virtual_host_metadata"]
    try await RabbitMQSandbox.withSandbox(logger: TestBroker.logger) { sandbox in
      let broker = TestBroker(settings: sandbox.settings, vhost: "tasks")
      try await broker.api.put("vhosts/tasks", ["description": "what is to be done", "tags": "work"])
      try await broker.permit()
      try await broker.declare("log", "stream")
      try await broker.declare("votes", "quorum")
      try await broker.api.put("users/limited", ["password": "secret", "tags": ""])
      try await broker.api.put("user-limits/limited/max-connections", ["value": 5])
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(
          RabbitMQDefinitionsSource(component: try Component(.rabbitmq, "test"), broker: broker.settings),
          to: repository)
        var options = RabbitMQSandbox.Options()
        options.featureFlags = ["quorum_queue", "implicit_default_bindings"]
        try await RabbitMQSandbox.withSandbox(options, logger: TestBroker.logger) { target in
          let api = ManagementAPI(target.settings)
          var restorer = RabbitMQDefinitionsRestorer(broker: target.settings)
          restorer.isHarmless = true
          let reader = repository.reader(for: manifest)
          let plan = try await restorer.plan(from: reader, logger: TestBroker.logger)
          let failures = plan.findings.filter { $0.severity == .failure }
          #expect(failures.map(\.advice) == missing.map { "rabbitmqctl enable_feature_flag \($0)" })
          #expect(failures.map(\.subject).first == "queues tasks log", "\(failures)")
          let others = plan.findings.first { $0.check == "definitions-feature-flags" && $0.severity == .warning }
          #expect(others?.advice?.contains("enable_feature_flag maintenance_mode_status") == true)
          await expectError {
            try await restorer.run(from: reader, logger: TestBroker.logger)
          } matching: { error in
            missing.allSatisfy { "\(error)".contains("rabbitmqctl enable_feature_flag \($0)") }
          }
          let vhosts = (try await api.get("vhosts").array ?? []).map { $0.object?["name"]?.string }
          #expect(vhosts == ["/"])
          #expect(try await api.find("users/limited") == nil)
          for flag in missing {
            let enabled = try await target.run("rabbitmqctl", ["enable_feature_flag", flag])
            try #require(enabled.status == 0, "\(enabled)")
          }
          let report = try await restorer.run(from: reader, logger: TestBroker.logger)
          #expect(!report.hasFailures, "\(report.findings)")
          let tasks = try await BrokerFacts(api).vhosts.first { $0.name == "tasks" }
          #expect(tasks?.description == "what is to be done" && tasks?.tags == ["work"])
        }
      }
    }
  }
}
