import DRCore
import DRPlan
import DRTestSupport
import Foundation
import Testing

/// `dr-plan` as a person runs it.
struct PlanProgramTests {
  private func run(_ arguments: String..., in folder: String) async throws -> ProgramAnswer {
    let result = try await runCommand(ReceiverProcess.built("dr-plan"), arguments, workingDirectory: folder)
    return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
  }

  @Test("The platform's plan keeps its promises; without its logs it does not; as JSON it is the same plan")
  func protection() async throws {
    try await withTemporaryFolder { folder in
      let shown = try await run("show", in: folder)
      #expect(shown.status == 0, "\(shown)")
      try shown.output.write(toFile: "\(folder)/plan.json", atomically: true, encoding: .utf8)
      let again = try await run("show", "--plan", "plan.json", in: folder)
      #expect(again.output == shown.output)
      let check = try await run("check", "--plan", "plan.json", in: folder)
      #expect(
        check.status == 0 && check.output.contains("passed rpo-reachable postgres/agent_orchestrator"), "\(check)")
      #expect(
        try JSONDecoder().decode([Finding].self, from: Data(try await run("check", "--json", in: folder).output.utf8))
          .count > 20)
      let exposure = try await run("exposure", in: folder)
      #expect(
        exposure.status == 0 && exposure.output.contains("redis/cache: at most 1m5s would be lost, 15m promised"),
        "\(exposure)")
      let broken = try await run("exposure", "--without", "WAL", in: folder)
      #expect(
        broken.status == 1 && broken.output.contains("postgres/agent_orchestrator: at most 1h20m would be lost"),
        "\(broken)")
      #expect(try await run("exposure", "--without", "WALL", in: folder).status == 64)
      let next = try await run("next", "--hours", "25", in: folder)
      #expect(
        next.status == 0 && next.output.contains("redis/cache AOF rewrite")
          && next.output.contains("verification, data"))

      try shown.output.replacing("\"continuous\" : \"5m\"", with: "\"continuous\" : \"2h\"").write(
        toFile: "\(folder)/slow.json", atomically: true, encoding: .utf8)
      let slow = try await run("check", "--plan", "slow.json", in: folder)
      #expect(slow.status == 1 && slow.output.contains("failure rpo-reachable postgres/agent_orchestrator"), "\(slow)")
      try shown.output.replacing("\"timeZone\"", with: "\"timezone\"").write(
        toFile: "\(folder)/wrong.json", atomically: true, encoding: .utf8)
      let wrong = try await run("check", "--plan", "wrong.json", in: folder)
      #expect(wrong.status == 2 && wrong.error.contains("the field 'timezone' is not known"), "\(wrong)")
    }
  }

  /// Runs the body with a port at which connections are taken.
  private func withListener(_ body: (Int) async throws -> Void) async throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 8) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    try #require(isBound)
    try await body(Int(UInt16(bigEndian: address.sin_port)))
  }

  private static func plan(_ folder: String, port: Int) -> String {
    """
    {"name": "test", "budget": "10m", "steps": [
      {"id": "first", "budget": "1m", "priority": "critical", "run": ["sh", "-c", "echo first >> \(folder)/log"], "undo": ["sh", "-c", "echo undone >> \(folder)/log"]},
      {"id": "second", "after": ["first"], "budget": "1m", "limit": "5m",
        "run": ["sh", "-c", "echo second >> \(folder)/log; test -e \(folder)/go || exec sleep 300"], "environment": {"X": "y"}},
      {"id": "answers", "after": ["first"], "budget": "1m", "tcp": "127.0.0.1:\(port)"},
      {"id": "unneeded", "budget": "1m", "onlyIf": ["false"], "run": ["sh", "-c", "echo never >> \(folder)/log"]},
      {"id": "asked", "after": ["second"], "budget": "1m", "ask": "go on?"}
    ]}
    """
  }

  @Test("A recovery that is killed goes on where it was and repeats nothing that is done; told to end, it takes back")
  func recovery() async throws {
    try await withTemporaryFolder { folder in
      try await withListener { port in
        try Self.plan(folder, port: port).write(toFile: "\(folder)/plan.json", atomically: true, encoding: .utf8)
        func log() -> [Substring] {
          ((try? String(contentsOfFile: "\(folder)/log", encoding: .utf8)) ?? "").split(separator: "\n")
        }
        let dry = try await run("recover", "plan.json", in: folder)
        #expect(
          dry.status == 0 && dry.output.contains("critical path: first, second, asked, up to 3m of 10m"), "\(dry)")
        #expect(log().isEmpty)
        #expect(try await run("recover", "plan.json", "--execute", in: folder).status == 64)

        let arguments = ["recover", "\(folder)/plan.json", "--execute", "--journal", "\(folder)/journal", "--yes"]
        let killed = try RunningProgram(arguments, of: ReceiverProcess.built("dr-plan"), in: folder)
        try await eventually("the second step to begin") { log().contains("second") }
        killed.send(SIGKILL)
        _ = try await killed.end(within: .seconds(20))
        // What it had begun goes on by itself.
        _ = try await runCommand("/usr/bin/pkill", ["-f", "-x", "sleep 300"])
        let ended = try RunningProgram(arguments, of: ReceiverProcess.built("dr-plan"), in: folder)
        try await eventually("the second step to begin again") { log().count { $0 == "second" } == 2 }
        ended.send(SIGTERM)
        let told = try await ended.end(within: .seconds(30))
        #expect(told.status == 143 && told.said.contains("first: taken back"), "\(told)")
        try await eventually("what was done to be taken back") { log().last == "undone" }

        try "".write(toFile: "\(folder)/go", atomically: true, encoding: .utf8)
        let whole = try await run("recover", "plan.json", "--execute", "--journal", "other", "--yes", in: folder)
        #expect(whole.status == 0 && whole.output.contains("passed: "), "\(whole)")
        #expect(
          whole.output.contains("unneeded: skipped") && whole.output.contains("critical path: first, "), "\(whole)")
        let again = try await run("recover", "plan.json", "--execute", "--journal", "other", "--yes", in: folder)
        #expect(again.status == 0 && again.output.contains("second: done before"), "\(again)")
        #expect(!log().contains("never") && log().count { $0 == "second" } == 3)
        // Nobody answers: the step's limit ends the wait.
        let asking =
          #"{"name": "ask", "budget": "1m", "steps": [{"id": "ask", "budget": "1s", "limit": "1s", "ask": "go on?"}]}"#
        try asking.write(toFile: "\(folder)/ask.json", atomically: true, encoding: .utf8)
        let program = ReceiverProcess.built("dr-plan")
        for (script, status) in [
          ("mkfifo pipe; exec 3<>pipe; '\(program)' recover ask.json --execute --journal a1 <&3", 1),
          ("printf 'YES\\n' | '\(program)' recover ask.json --execute --journal a2", 0),
          ("printf n | '\(program)' recover ask.json --execute --journal a3", 1),
        ] as [(String, Int32)] {
          let said = try await runCommand("/bin/bash", ["-c", script], workingDirectory: folder)
          #expect(said.status == status, "\(script): \(String(decoding: said.output, as: UTF8.self))")
        }
        let no = try await run("recover", "plan.json", "--execute", "--journal", "third", in: folder)
        #expect(no.status == 1 && no.output.contains("the answer to 'go on?' is no"), "\(no)")
      }
    }
  }
}
