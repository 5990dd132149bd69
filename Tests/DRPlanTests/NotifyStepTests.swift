import DRCore
import DRPlan
import DRTestSupport
import Foundation
import Logging
import NIOHTTP1
import Testing

/// `notify` as a step of a plan that is a file.
@Suite struct NotifyStepTests {
  private static let logger = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })
  private static let began = Date(timeIntervalSince1970: 1_790_000_000)

  private static func plan(_ steps: String, _ messages: PlanMessages = .none) throws -> RecoveryPlan {
    try RecoveryPlan(
      json: Data(#"{"name": "p", "budget": "10m", "variables": {"team": "storage"}, "steps": [\#(steps)]}"#.utf8),
      messages: messages
    ) { _ in false }
  }

  private static func messages(_ channels: [any NotificationChannel]) -> PlanMessages {
    PlanMessages(over: Notifier(channels)) {
      var incident = Incident(["redis/cache"], severity: .high, began: began)
      incident.action = "Redis from its snapshot"
      return incident
    }
  }

  private static let steps = """
    {"id": "alert", "budget": "2s", "notify": "alert"},
    {"id": "work", "after": ["alert"], "budget": "1m", "run": ["true"]},
    {"id": "status", "after": ["work"], "budget": "2s", "notify": "status", "to": ["${team} team", "sales"]},
    {"id": "clear", "after": ["status"], "budget": "2s", "notify": "all-clear"}
    """

  @Test(
    "Steps send the communication plan's messages; a webhook that fails fails no recovery, and the evidence says so")
  func failing() async throws {
    try await withTemporaryFolder { folder in
      try await HTTPListener.with(.answer(.internalServerError)) { listener in
        let address = "\(folder)/address"
        try "http://127.0.0.1:\(listener.port)/hook".write(toFile: address, atomically: true, encoding: .utf8)
        chmod(address, 0o600)
        let messages = Self.messages([
          FileChannel("log", path: "\(folder)/incident.log"),
          WebhookChannel("chat", url: try SecretReference("file:\(address)")),
        ])
        let report = try await RecoveryRun(try Self.plan(Self.steps, messages)).run(logger: Self.logger)
        #expect(report.verdict == .passed, "\(report.findings)")
        for id in ["alert", "status", "clear"] {
          let evidence = report.entries[id]?.evidence ?? ""
          let isSaid =
            evidence.hasPrefix("sent over 1 of 2 channels; chat: ")
            && evidence.contains("NOT SENT: [source-failed] the webhook answers 500")
          #expect(isSaid, "\(id): \(evidence)")
        }
        #expect(listener.requests.count == 3 && listener.requests.allSatisfy { $0.method == .POST })
        let log = try String(contentsOfFile: "\(folder)/incident.log", encoding: .utf8)
        let parts = [
          "INCIDENT ALERT (P2): redis/cache", "To: incident commander, DBA, CIO",
          "Initial Action: Redis from its snapshot",
          "To: storage team, sales", "INCIDENT RESOLVED at 2", "To: all stakeholders",
        ]
        for part in parts { #expect(log.contains(part), "\(part) in \(log)") }
      }
    }
  }

  @Test("A webhook that hangs costs less than the step's budget")
  func hanging() async throws {
    try await withTemporaryFolder { folder in
      try await HTTPListener.with(.hang) { listener in
        let address = "\(folder)/address"
        try "http://127.0.0.1:\(listener.port)/hook".write(toFile: address, atomically: true, encoding: .utf8)
        chmod(address, 0o600)
        let messages = Self.messages([WebhookChannel("chat", url: try SecretReference("file:\(address)"))])
        let report = try await RecoveryRun(
          try Self.plan(#"{"id": "alert", "budget": "4s", "notify": "alert"}"#, messages)
        ).run(logger: Self.logger)
        #expect(report.verdict == .passed, "\(report.findings)")
        let evidence = report.entries["alert"]?.evidence ?? ""
        #expect(evidence.contains("sent over 0 of 1 channels") && evidence.contains("took longer"), "\(evidence)")
      }
    }
  }

  @Test("Without a channel nobody is told, and the step says so; the plan is the same")
  func nobody() async throws {
    let plan = try Self.plan(Self.steps)
    let report = try await RecoveryRun(plan).run(logger: Self.logger)
    #expect(report.verdict == .passed)
    #expect(report.entries["alert"]?.evidence == "NOBODY WAS TOLD: no channel is named")
    let told = try Self.plan(Self.steps, Self.messages([FileChannel("log", path: "/nowhere/log")]))
    #expect(told.fingerprint == plan.fingerprint)
    #expect(plan.steps[2].action.summary == "tell: status to storage team, sales")
    let others = try Self.plan(Self.steps.replacing("sales", with: "nobody else"))
    #expect(others.fingerprint != plan.fingerprint)
  }

  @Test("What is no message, and what goes with no message, is refused by the step's name")
  func refused() {
    for (step, text) in [
      (#"{"id": "a", "budget": "1m", "notify": "alarm"}"#, "'alarm', which is none: alert, status, business"),
      (#"{"id": "a", "budget": "1m", "run": ["true"], "to": ["x"]}"#, "does one thing"),
      (#"{"id": "a", "budget": "1m", "notify": "alert", "tcp": "a:1"}"#, "does one thing"),
      (#"{"id": "a", "budget": "1m", "notify": "alert", "to": ["${nobody}"]}"#, "declares no such variable"),
    ] {
      let error = #expect(throws: DRError.self) { try Self.plan(step) }
      #expect(error?.message.contains(text) == true, "\(String(describing: error))")
    }
  }
}
