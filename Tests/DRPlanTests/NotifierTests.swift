import DRCore
import DRPlan
import DRTestSupport
import Foundation
import Logging
import Testing

/// People are told, and nothing waits for a channel that does not work.
struct NotifierTests {
  private static let began = SampleReport.disaster
  private static let secret = "/services/T0000/B0000/verysecrettoken"

  private static var incident: Incident {
    var incident = Incident(["PostgreSQL"], severity: .critical, began: began)
    incident.impact = "about 200 users"
    incident.commander = "Ada"
    incident.action = "PostgreSQL to the moment"
    incident.service = "the agent platform"
    incident.statusPage = "https://status.example.com"
    return incident
  }

  /// A webhook of a server, its address in a file.
  private func webhook(_ listener: HTTPListener, in folder: String, patience: Duration = .seconds(2)) throws
    -> WebhookChannel
  {
    let file = "\(folder)/webhook-\(UUID().uuidString)"
    try "http://127.0.0.1:\(listener.port)\(Self.secret)\n".write(toFile: file, atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
    return WebhookChannel("slack", url: try SecretReference("file:\(file)"), patience: patience)
  }

  @Test("A webhook gets Slack's format; what has a meaning there is text")
  func slack() async throws {
    try await withTemporaryFolder { folder in
      try await HTTPListener.with(.answer(.ok)) { listener in
        let channel = try webhook(listener, in: folder)
        let message = Announcement(subject: "<!channel> & co", text: "line\n\"two\" <http://x|y>", audience: ["DBA"])
        try await channel.send(message)
        let request = try #require(listener.requests.first)
        #expect(
          request.method == .POST && request.uri == Self.secret && request.type?.hasPrefix("application/json") == true)
        let body = try JSONDecoder().decode([String: String].self, from: Data(request.body.utf8))
        #expect(body == ["text": "*&lt;!channel&gt; &amp; co*\nline\n\"two\" &lt;http://x|y&gt;\nTo: DBA"])
      }
    }
  }

  @Test(
    "A webhook that hangs, never ends, answers 500, sends elsewhere or is not there is reported in its time, without its address"
  )
  func broken() async throws {
    try await withTemporaryFolder { folder in
      let manners: [(HTTPListener.Manner, String?)] = [
        (.hang, "deadline"), (.answer(.internalServerError), "answers 500"), (.answer(.notFound), "answers 404"),
        (.answer(.found, location: "http://127.0.0.1:9/x"), "answers 302"), (.begin, nil),
      ]
      for (manner, said) in manners {
        try await HTTPListener.with(manner) { listener in
          let channel = try webhook(listener, in: folder, patience: .milliseconds(500))
          let begun = ContinuousClock.now
          let delivery = try #require(await Notifier([channel]).send(.init(subject: "s", text: "t")).first)
          #expect(begun.duration(to: .now) < .seconds(5))
          #expect(
            said == nil ? delivery.error == nil : delivery.error?.lowercased().contains(said ?? "") == true,
            "\(delivery)")
          #expect(!"\(delivery)".contains("verysecret") && !"\(delivery)".contains("T0000"))
          #expect(listener.requests.count == 1)
        }
      }
      let gone = try await HTTPListener.with(.hang) { try webhook($0, in: folder) }
      let delivery = try #require(await Notifier([gone]).send(.init(subject: "s", text: "t")).first)
      #expect(delivery.error != nil && !"\(delivery)".contains("verysecret"), "\(delivery)")
    }
  }

  @Test("Mail is one message on the standard input of a program, whatever its subject holds; Python reads it as it was")
  func mail() async throws {
    try await withTemporaryFolder { folder in
      let program = "\(folder)/sendmail"
      try "#!/bin/sh\ncat > \(folder)/message\n".write(toFile: program, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
      let channel = try MailChannel(
        "mail", command: [program, "-t", "-i"], from: "dr@example.com", to: ["a@example.com", "b@example.com"])
      let subject = "Störung: PostgreSQL\nBcc: eve@example.com " + String(repeating: "ü", count: 100)
      let text = "Zeile eins\n.\n\(String(repeating: "lang ", count: 500))\nFrom here"
      #expect(
        await Notifier([channel]).send(.init(subject: subject, text: text, audience: ["DBA"])).first?.error == nil)
      let script = """
        import sys, json, email, email.policy
        message = email.message_from_bytes(open(sys.argv[1], "rb").read(), policy=email.policy.default)
        long = max(len(line) for line in open(sys.argv[1], "rb").read().split(b"\\n"))
        json.dump({"to": message["To"], "bcc": str(message["Bcc"]), "subject": message["Subject"], "text": message.get_content(),
                   "longest": str(long)}, sys.stdout)
        """
      let read = try await runCommand("python3", ["-c", script, "\(folder)/message"])
      try #require(read.status == 0, "\(read.error)")
      let seen = try JSONDecoder().decode([String: String].self, from: Data(read.output))
      #expect(seen["to"] == "a@example.com, b@example.com" && seen["bcc"] == "None")
      #expect(seen["subject"]?.replacing("\n", with: " ") == subject.replacing("\n", with: " "), "\(seen)")
      #expect(seen["text"] == text + "\n" && Int(seen["longest"] ?? "") ?? 999 <= 78)
      for (from, to) in [("a b@c", "x@y"), ("a@b", "x@y\nBcc: z@z"), ("a@b", "nobody")] {
        #expect(throws: DRError.self) { try MailChannel("m", from: from, to: [to]) }
      }
      // One that fails, and one that never reads.
      let failing = try MailChannel("mail", command: ["/bin/false"], from: "a@b", to: ["c@d"])
      #expect(await Notifier([failing]).send(.init(subject: "s", text: "t")).first?.error != nil)
      let stuck = try MailChannel("mail", command: ["/bin/sleep", "60"], from: "a@b", to: ["c@d"])
      let begun = ContinuousClock.now
      let delivery = await Notifier([stuck], patience: .seconds(1)).send(.init(subject: "s", text: "t")).first
      #expect(
        delivery?.error?.contains("longer") == true && begun.duration(to: .now) < .seconds(10),
        "\(String(describing: delivery))")
    }
  }

  @Test("A file gets each message at its end; what is no file is refused at once")
  func file() async throws {
    try await withTemporaryFolder { folder in
      let channel = FileChannel("log", path: "\(folder)/log")
      let notifier = Notifier([
        channel, FileChannel("gone", path: "\(folder)/none/log"), FileChannel("pipe", path: "\(folder)/pipe"),
      ])
      try #require(mkfifo("\(folder)/pipe", 0o600) == 0)
      for number in 1...2 {
        let deliveries = await notifier.send(.init(subject: "number \(number)", text: "text", audience: ["all"]))
        let taken = deliveries.map { $0.error == nil }
        #expect(taken == [true, false, false], "\(deliveries)")
      }
      let text = try String(contentsOfFile: "\(folder)/log", encoding: .utf8)
      #expect(text.contains("number 1") && text.contains("number 2") && text.contains("To: all"))
    }
  }

  @Test("The document's templates are filled from what is known, and what is not known is said")
  func templates() {
    let now = SampleReport.at(15 * 60)
    var known = Self.incident
    known.actionsTaken = ["certificates", "network"]
    known.expectedEnd = SampleReport.at(40 * 60)
    known.nextUpdate = SampleReport.at(30 * 60)
    func text(_ message: IncidentMessage, _ incident: Incident) -> String { message.text(incident, now: now) }
    let began = "2026-11-18 11:06:40 UTC"
    #expect(text(.alert, known).hasPrefix("INCIDENT ALERT: PostgreSQL failure detected at \(began)\nSeverity: P1\n"))
    #expect(
      text(.alert, known).contains(
        "Estimated Impact: about 200 users\nIncident Commander: Ada\nInitial Action: PostgreSQL"))
    #expect(text(.status, known).contains("Status Update (15 min):\nSystems Affected: PostgreSQL"))
    #expect(text(.status, known).contains("Estimated Time to Restoration: within 25m, by"))
    #expect(
      text(.business, known).contains("- Actions Taken: certificates; network")
        && text(.business, known).contains("Next Update: 2026"))
    #expect(
      text(.customers, known)
        == "We are investigating a service disruption affecting the agent platform.\nOur teams are actively working on recovery. "
        + "Updates every 30 minutes.\nStatus: https://status.example.com")
    known.resolved = SampleReport.at(35 * 60)
    known.summary = "restored from the backup"
    #expect(text(.allClear, known).hasPrefix("INCIDENT RESOLVED at 2026-11-18 11:41:40 UTC\nAll systems operational\n"))
    #expect(text(.allClear, known).contains("Root Cause: TBD"))
    for part in ["1. Timeline", "2. Root cause", "3. Immediate fixes", "4. Follow-up", "5. Lessons learned"] {
      #expect(text(.report, known).contains(part))
    }
    let bare = Incident([], severity: .high, began: Self.began)
    for message in IncidentMessage.allCases {
      #expect(!text(message, bare).contains("nil") && !text(message, bare).contains("Optional"))
    }
    #expect(text(.alert, bare).contains("Incident Commander: nobody yet"))
  }

  @Test("Who is called in when, and what is due when, follow from a value")
  func escalation() {
    let plan = CommunicationPlan.document
    let levels = [0.0, 14.99, 15, 29, 30, 59, 60, 600].map { plan.level(at: .minutes($0))?.who.first }
    #expect(
      levels == [
        "on-call engineer", "on-call engineer", "engineering lead", "engineering lead", "director", "director",
        "C-suite executive", "C-suite executive",
      ])
    func due(_ from: Double, _ to: Double) -> [String] {
      plan.due(in: SampleReport.at(from * 60)..<SampleReport.at(to * 60), began: Self.began).map {
        "\(Int($0.at.timeIntervalSince(Self.began) / 60)) \($0.isEscalation ? "escalation" : $0.message.rawValue)"
      }
    }
    #expect(due(0, 1) == ["0 alert", "0 escalation"])
    #expect(due(1, 31) == ["15 status", "15 customers", "15 escalation", "30 status", "30 business", "30 escalation"])
    #expect(due(31, 61) == ["45 status", "45 customers", "60 status", "60 business", "60 escalation"])
    #expect(due(61, 75).isEmpty)
  }

  @Test("A recovery is accompanied, told of by its plan, and neither failed nor delayed by channels that are broken")
  func accompany() async throws {
    try await withTemporaryFolder { folder in
      try await HTTPListener.with(.hang) { hanging in
        try await HTTPListener.with(.answer(.internalServerError)) { failing in
          try await HTTPListener.with(.answer(.ok)) { taking in
            let notifier = Notifier(
              [
                try webhook(hanging, in: folder, patience: .seconds(60)), try webhook(failing, in: folder),
                try webhook(taking, in: folder),
              ], patience: .seconds(1))
            let deliveries = MutableBox<[Notifier.Delivery]>([])
            let known = MutableBox(Self.incident)
            known.withLock { $0.began = Date().addingTimeInterval(-16 * 60) }
            let ended = MutableBox<ContinuousClock.Instant?>(nil)
            let begun = ContinuousClock.now
            let result = try await notifier.accompany(
              .document, onDelivery: { delivery in deliveries.withLock { $0.append(delivery) } },
              incident: { known.value }
            ) {
              try await Task.sleep(for: .milliseconds(200))
              known.withLock { $0.resolved = Date() }
              ended.withLock { $0 = .now }
              return "recovered"
            }
            #expect(result == "recovered")
            let took = ended.value.map { begun.duration(to: $0) } ?? .seconds(999)
            #expect(took < .seconds(1))
            #expect(begun.duration(to: .now) < .seconds(10))
            let taken = taking.requests.map(\.body)
            // Late by 16 minutes: each once, then that it is over.
            #expect(taken.count == 6, "\(taken)")
            #expect(taken.last?.contains("INCIDENT RESOLVED") == true)
            let first = taken.count { $0.contains("on-call engineer") }
            let second = taken.count { $0.contains("engineering lead") }
            #expect(first == 1 && second == 2)
            let sent = deliveries.value.count { $0.error == nil }
            #expect(deliveries.value.count == 18 && sent == 6)
          }
        }
      }
      // As a step of a plan: broken channels fail no recovery.
      let file = FileChannel("log", path: "\(folder)/log")
      let gone = FileChannel("gone", path: "\(folder)/none/log")
      let step = RecoveryPlan.Step(
        "tell", "Tell", budget: .seconds(30),
        NotifyAction("all-clear", over: Notifier([gone, file])) {
          IncidentMessage.allClear.announcement(Self.incident, now: Date(), to: [])
        })
      let report = try await RecoveryRun(RecoveryPlan("p", budget: .minutes(1), steps: [step])).run(
        logger: Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() }))
      #expect(
        report.verdict == .passed
          && report.entries["tell"]?.evidence.contains("sent over 1 of 2 channels; gone") == true)
    }
  }

  @Test("An incident follows its recovery: what was done, what is next, how long the rest may take")
  func follow() async throws {
    let fails = MutableBox(true)
    func step(_ id: String, after: [String] = [], _ body: @escaping @Sendable () throws -> String = { "ok" })
      -> RecoveryPlan.Step
    {
      RecoveryPlan.Step(id, "Title of \(id)", after: after, budget: .minutes(10), CustomAction(id) { try body() })
    }
    let plan = try RecoveryPlan(
      "p", budget: .hours(1),
      steps: [
        step("a"), step("b", after: ["a"]) { if fails.value { throw DRError(.sourceFailed, "no") } else { "ok" } },
        step("c", after: ["b"]),
      ])
    let logger = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })
    var known = Self.incident
    known.follow(try await RecoveryRun(plan).run(logger: logger), now: SampleReport.at(60))
    #expect(known.actionsTaken == ["Title of a"] && known.action == "Title of b" && known.resolved == nil)
    #expect(known.expectedEnd == SampleReport.at(60 + 1200))
    fails.withLock { $0 = false }
    known.follow(try await RecoveryRun(plan).run(logger: logger), now: SampleReport.at(60))
    #expect(known.resolved != nil && known.action == nil && known.timeline.count == 6)
  }

  @Test("Channels come from a file that holds no secret; one that stands there is refused, and is not in the message")
  func configuration() throws {
    let good =
      #"{"webhooks": [{"name": "s", "url": "env:X"}], "mail": [{"name": "m", "from": "a@b", "to": ["c@d"]}], "files": [{"name": "f", "path": "/x"}]}"#
    #expect(try Notifier(json: Data(good.utf8)).channels.map(\.name) == ["s", "m", "f"])
    for bad in [
      #"{"webhooks": [{"name": "s", "url": "https://hooks.example.com/verysecret"}]}"#, "{}",
      #"{"webhooks": [{"name": "s", "uri": "env:X"}]}"#, #"{"webhook": []}"#,
    ] {
      let error = #expect(throws: DRError.self) { try Notifier(json: Data(bad.utf8)) }
      let said = error.map { "\($0)" } ?? "verysecret"
      #expect(!said.contains("verysecret"))
    }
  }
}
