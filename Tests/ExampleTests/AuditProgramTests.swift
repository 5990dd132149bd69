import DRCore
import DRTestSupport
import Foundation
import Testing

/// What programs do to a repository is in its audit trail, as `dr-repository audit` lists it.
struct AuditProgramTests {
  private func run(_ program: String, _ arguments: String..., in folder: String) async throws -> ProgramAnswer {
    let result = try await runCommand(ReceiverProcess.built(program), arguments, workingDirectory: folder)
    return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
  }

  @Test("A backup, a verification, a restore and one that is refused are lines; one that is removed is found")
  func trail() async throws {
    try await withTemporaryFolder { folder in
      let configuration = #"{"repository": "\#(folder)/backups", "component": "config/app", "plaintext": true}"#
      try configuration.write(toFile: "\(folder)/dr.json", atomically: true, encoding: .utf8)
      try FileManager.default.createDirectory(atPath: "\(folder)/app", withIntermediateDirectories: false)
      try "port = 1".write(toFile: "\(folder)/app/a.conf", atomically: true, encoding: .utf8)
      for arguments in [["init"], ["capture", "app"], ["verify"], ["restore", "--to", "new"]] {
        let said = try await runCommand(
          ReceiverProcess.built("dr-files"), [arguments[0], "--config", "dr.json"] + arguments.dropFirst(),
          workingDirectory: folder)
        #expect(said.status == 0, "\(said.error)")
      }
      let refused = try await run("dr-files", "restore", "--config", "dr.json", "--to", "new", in: folder)
      #expect(refused.status == 2)
      let replica = "\(folder)/copy"
      #expect(try await run("dr-tier", "init", "--tier", replica, in: folder).status == 0)
      let copied = try await run(
        "dr-repository", "replicate", "--from", "\(folder)/backups", "--to", replica, in: folder)
      #expect(copied.status == 0, "\(copied)")

      let trail = try await run("dr-repository", "audit", "--tier", "\(folder)/backups", in: folder)
      let lines = trail.output.split(separator: "\n").map(String.init)
      #expect(trail.status == 0 && lines.count == 9, "\(trail)")
      let expected = [
        "begun: backup config/app", "done in", "begun: verify config/app", "done in", "begun: restore config/app new",
        "done in", "begun: restore config/app new", "failed in", "passed audit-chain",
      ]
      for (line, part) in zip(lines, expected) { #expect(line.contains(part), "\(line)") }
      #expect(lines.count > 7 && lines[1].contains("backup_") && lines[7].contains("destination-in-use"))
      let there = try await run("dr-repository", "audit", "--tier", replica, "--json", in: folder)
      #expect(there.status == 0 && there.output.contains(#""operation":"replicate""#), "\(there)")
      let chosen = try await run(
        "dr-repository", "audit", "--tier", "\(folder)/backups", "--operation", "verify", in: folder)
      #expect(chosen.output.split(separator: "\n").count == 3, "\(chosen)")

      let files = try FileManager.default.subpathsOfDirectory(atPath: "\(folder)/backups/audit").filter {
        $0.hasSuffix(".00000003.json")
      }
      try FileManager.default.removeItem(atPath: "\(folder)/backups/audit/\(try #require(files.first))")
      let broken = try await run("dr-repository", "audit", "--tier", "\(folder)/backups", in: folder)
      #expect(broken.status == 1 && broken.output.contains("line 3 of 8 is missing"), "\(broken)")
    }
  }
}
