import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

/// `dr-verify restore-test` and `negative-control`, on real servers.
@Suite(.serialized) struct RestoreTestTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private struct Said {
    var status: Int32
    var findings: [Finding]
    var verdict: String
    var text: String

    func of(_ check: String) -> [Finding] { findings.filter { $0.check == check } }
    func severities(_ check: String) -> Set<Finding.Severity> { Set(of(check).map(\.severity)) }
    func point(_ number: Int) -> Finding? { of("checklist").first { $0.subject.hasPrefix("\(number). ") } }
  }

  /// Runs `dr-verify` with its report as JSON.
  private static func verify(_ arguments: [String], in folder: String) async throws -> Said {
    let result = try await runCommand(
      ReceiverProcess.built("dr-verify"), arguments + ["--json"], workingDirectory: folder, timeLimit: .seconds(400))
    let text = String(decoding: result.output, as: UTF8.self)
    struct Report: Decodable {
      var findings: [Finding]
      var verdict: String
    }
    let report = try? JSONDecoder().decode(Report.self, from: Data(result.output))
    return Said(
      status: result.status, findings: report?.findings ?? [], verdict: report?.verdict ?? "",
      text: text + result.error)
  }

  /// A server with a shop, a receiver beside it, a backup, and what was changed after that.
  private static func withShop(_ body: (ProgramPlace) async throws -> Void) async throws {
    try await ProgramPlace.with { place in
      try await PostgresSandbox.withSandbox(logger: logger) { server in
        try await server.query(
          """
          CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, updated_at timestamptz NOT NULL);
          CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, amount numeric(10, 2));
          INSERT INTO customers SELECT n, 'customer ' || n, now() FROM generate_series(1, 50) n;
          INSERT INTO orders (customer, amount) SELECT n % 50 + 1, n FROM generate_series(1, 1000) n;
          CREATE TABLE canary (word text); INSERT INTO canary VALUES ('a bird of gold')
          """)
        #expect(try await place.run("init").status == 0)
        let conninfo = ReceiverProcess.conninfo(server.settings)
        let baseline = try await runCommand(
          ReceiverProcess.built("dr-verify"),
          ["baseline", "--postgres", conninfo, "--query", "sum@postgres=SELECT sum(amount) FROM orders"],
          workingDirectory: place.folder)
        #expect(baseline.status == 0, "\(baseline.error)")
        try Data(baseline.output).write(to: URL(filePath: place.folder + "/baseline.json"))
        try "a bird of gold".write(toFile: place.folder + "/answer", atomically: true, encoding: .utf8)
        chmod(place.folder + "/answer", 0o600)
        #expect(try await place.run("receive-wal", "--prepare-only", at: server).status == 0)
        let receiver = try RunningProgram(
          place.arguments(["receive-wal", "--partial-interval", "1"], at: server), of: place.program, in: place.folder)
        let backup = try await place.run("backup", at: server)
        #expect(backup.status == 0, "\(backup)")
        try await server.query("INSERT INTO orders (customer, amount) SELECT 1, 5 FROM generate_series(1, 5)")
        try await server.query("SELECT pg_switch_wal()")
        try await server.query("INSERT INTO orders (customer, amount) VALUES (2, 7)")
        try await eventually("two full segments to be stored") {
          try place.files("/wal/").filter { $0.hasSuffix(".zst") && !$0.contains("partial") }.count >= 2
        }
        try await Task.sleep(for: .seconds(3))
        receiver.send(SIGTERM)
        _ = try await receiver.end(within: .seconds(30))
      }
      try await body(place)
    }
  }

  @Test("PostgreSQL comes back into a sandbox and every probe looks at it; what it does not have is found")
  func postgres() async throws {
    try await Self.withShop { place in
      let test = [
        "restore-test", "--config", place.config, "--baseline", "baseline.json", "--canary",
        "postgres=SELECT word FROM canary", "--canary-file", "answer",
      ]
      let good = try await Self.verify(
        test + ["--application", "psql -Atqc 'SELECT count(*) FROM orders' | grep -x 1006", "--junit", "junit.xml"],
        in: place.folder)
      #expect(good.status == 0 && good.verdict == "passed", "\(good.text)")
      for check in [
        "restore", "connectivity", "row-counts", "foreign-keys", "constraints", "uniqueness", "sequences", "amcheck",
        "dump",
        "collations", "tables", "column-types", "timestamps", "queries", "query-timings", "canary", "application",
        "restore-time", "sandbox-archives-nothing", "sandbox-listens-to-nobody", "sandbox-reaches-nobody",
        "sandbox-removed",
      ] { #expect(good.severities(check).contains(.passed), "\(check): \(good.of(check))") }
      #expect(good.of("checklist").count == 15)
      for number in [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12] {
        #expect(good.point(number)?.severity == .passed, "\(String(describing: good.point(number)))")
      }
      for number in [10, 13, 14, 15] {
        #expect(good.point(number)?.severity == .notChecked && good.point(number)?.evidence.isEmpty == false)
      }
      #expect(!good.text.contains("bird of gold"))
      let junit = try await runCommand(
        "python3",
        [
          "-c", "import sys, xml.etree.ElementTree as e; print(e.parse(sys.argv[1]).getroot().get('failures'))",
          place.folder + "/junit.xml",
        ])
      #expect(String(decoding: junit.output, as: UTF8.self) == "0\n", "\(junit.error)")

      // Without a baseline nothing that needs one passes.
      let bare = try await Self.verify(["restore-test", "--config", place.config], in: place.folder)
      #expect(bare.status == 0, "\(bare.text)")
      for number in [2, 3, 6, 7, 9, 11, 12] { #expect(bare.point(number)?.severity == .notChecked, "\(number)") }

      // Each of these is not as it was.
      var baseline = try String(contentsOfFile: place.folder + "/baseline.json", encoding: .utf8)
      baseline = baseline.replacing("\"public.orders\" : 1000", with: "\"public.orders\" : 1020")
        .replacing("\"amount numeric(10,2)\"", with: "\"amount numeric(12,2)\"")
        .replacing("SELECT sum(amount) FROM orders", with: "SELECT sum(price) FROM orders")
        .replacing("\"public.canary\" : [", with: "\"public.gone\" : [\"x integer\"],\n \"public.canary\" : [")
      try baseline.write(toFile: place.folder + "/baseline.json", atomically: true, encoding: .utf8)
      try "a bird of silver".write(toFile: place.folder + "/answer", atomically: true, encoding: .utf8)
      let bad = try await Self.verify(
        test + ["--application", "exit 3", "--rto-minutes", "0.001"], in: place.folder)
      #expect(bad.status == 1 && bad.verdict == "failed", "\(bad.text)")
      for check in ["row-counts", "column-types", "queries", "tables", "canary", "application", "restore-time"] {
        #expect(bad.severities(check).contains(.failure), "\(check): \(bad.of(check))")
      }
      for number in [2, 3, 6, 9, 11] { #expect(bad.point(number)?.severity == .failure, "\(number)") }
      #expect(!bad.text.contains("bird of"))
      let left = try FileManager.default.contentsOfDirectory(atPath: "/tmp").filter { $0.contains("dr_wal") }
      #expect(left.isEmpty)
    }
  }

  @Test(
    "The negative control notices a flipped byte, a missing segment and a removed row; a mistyped baseline is an error")
  func postgresControl() async throws {
    try await Self.withShop { place in
      let control = try await Self.verify(["negative-control", "--config", place.config], in: place.folder)
      #expect(control.status == 0, "\(control.text)")
      let findings = control.of("negative-control")
      for damage in ["a flipped byte", "a missing WAL segment", "a removed row"] {
        #expect(findings.contains { $0.subject.hasPrefix(damage) && $0.severity == .passed }, "\(findings)")
      }
      for damage in ["a truncated RDB", "a lost message"] {
        #expect(findings.contains { $0.subject == damage && $0.severity == .notChecked }, "\(findings)")
      }
      // A base backup that is damaged in truth is a failed restore.
      let artifact = try #require(try place.plainFiles().first { $0.hasSuffix("base.tar.zst") })
      var content = try Data(contentsOf: URL(filePath: artifact))
      content[content.count / 2] ^= 1
      try content.write(to: URL(filePath: artifact))
      let damaged = try await Self.verify(["restore-test", "--config", place.config], in: place.folder)
      #expect(damaged.status == 1 && damaged.severities("restore") == [.failure], "\(damaged.text)")
      try #"{"postgre": {}}"#.write(toFile: place.folder + "/wrong.json", atomically: true, encoding: .utf8)
      let wrong = try await Self.verify(
        ["restore-test", "--config", place.config, "--baseline", "wrong.json"], in: place.folder)
      #expect(wrong.status == 2 && wrong.text.contains("the field 'postgre' is not known"), "\(wrong.text)")
    }
  }
}
