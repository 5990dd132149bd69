import DRCore
import DRTestSupport
import Foundation
import Testing

/// `dr-verify backups` as a person runs it.
struct VerifyBackupsTests {
  private static func run(_ arguments: String..., in folder: String) async throws -> ProgramPlace.Said {
    let result = try await runCommand(
      ReceiverProcess.built("dr-verify"), ["backups"] + arguments, workingDirectory: folder)
    return ProgramPlace.Said(
      status: result.status, output: String(decoding: result.output, as: UTF8.self), error: result.error)
  }

  @Test("What is whole is 0, what is not is 1 unless it is suppressed with a reason, what cannot be looked at is 2")
  func codes() async throws {
    try await withTemporaryFolder { folder in
      let small = try await SmallRepository(at: "\(folder)/one")
      try await small.log(1...3)
      try await small.backUp()
      let good = try await Self.run("--repository", "\(folder)/one", "--component", "postgres/app", in: folder)
      #expect(good.status == 0 && good.output.contains("passed artifact-digest"), "\(good)")
      #expect(
        good.output.contains("not checked copy-present") && good.output.contains("no copy of the repository was named"))

      // A copy that holds nothing.
      try FileManager.default.createDirectory(atPath: "\(folder)/two", withIntermediateDirectories: false)
      _ = try await SmallRepository(at: "\(folder)/two")
      let copy = ["--repository", "\(folder)/one", "--copy", "\(folder)/two"]
      let bad = try await Self.run(copy[0], copy[1], copy[2], copy[3], "--junit", "junit.xml", in: folder)
      #expect(bad.status == 1 && bad.output.contains("failure copy-present"), "\(bad)")
      let xml = try String(contentsOfFile: "\(folder)/junit.xml", encoding: .utf8)
      #expect(xml.contains("<testcase classname=\"copy-present\"") && xml.contains("<failure message="))
      let reason = "check=copy-present,reason=the new bucket is filled tonight"
      let suppressed = try await Self.run(
        copy[0], copy[1], copy[2], copy[3], "--suppress", reason, "--suppress",
        "check=log-on-copy,reason=the new bucket is filled tonight", "--json", in: folder)
      #expect(
        suppressed.status == 0 && suppressed.output.contains("\"reason\" : \"the new bucket is filled tonight\""),
        "\(suppressed)")

      // A copy that is not there at all is no failure of the backups, and no pass.
      let gone = try await Self.run("--repository", "\(folder)/one", "--copy", "\(folder)/three", in: folder)
      #expect(gone.status == 2 && gone.output.contains("could not verify tier-reachable"), "\(gone)")
      #expect(try await Self.run("--repository", "\(folder)/none", in: folder).status == 2)
    }
  }

  @Test("Samples, settings and mistakes")
  func settings() async throws {
    try await withTemporaryFolder { folder in
      let small = try await SmallRepository(at: "\(folder)/one")
      try await small.log(1...3)
      try await small.backUp()
      let place = "\(folder)/one"
      let sample = try await Self.run("--repository", place, "--sample", "50%", "--seed", "7", in: folder)
      #expect(sample.status == 0 && sample.output.contains("50 % by seed 7: 2 of 4 objects"), "\(sample)")
      try #"{"level": "metadata", "maxAgeHours": 0.0000001}"#.write(
        toFile: "\(folder)/s.json", atomically: true, encoding: .utf8)
      let late = try await Self.run("--repository", place, "--settings", "s.json", in: folder)
      #expect(late.status == 1 && late.output.contains("failure backup-age"), "\(late)")
      #expect(
        try await Self.run("--repository", place, "--settings", "s.json", "--max-age-hours", "1", in: folder).status
          == 0)
      try #"{"maxAge": 3}"#.write(toFile: "\(folder)/s.json", atomically: true, encoding: .utf8)
      let wrong = try await Self.run("--repository", place, "--settings", "s.json", in: folder)
      #expect(wrong.status == 2 && wrong.error.contains("the field 'maxAge' is not known"), "\(wrong)")
      for mistake in [
        ["--suppress", "check=backup-age"], ["--level", "all"], ["--sample", "8/7"], ["--seed", "4"],
        ["--max-age-hours", "0"], ["--component", "app"],
      ] {
        let said = try await Self.run("--repository", place, mistake[0], mistake[1], in: folder)
        #expect(said.status == 64, "\(mistake): \(said)")
      }
    }
  }
}
