import DRTestSupport
import Foundation
import Testing

/// `Scripts/install-prerequisites` says what it installs before it does, and on macOS it only names it.
///
/// Run with a path on which nothing is that it looks for, so that it finds everything missing, and with an apt-get that
/// says what it was told and does nothing.
@Suite struct PrerequisitesTests {
  private func run(_ use: String, system: String) async throws -> (status: Int32, said: String) {
    try await withTemporaryFolder { folder in
      for program in [
        "bash", "env", "timeout", "grep", "awk", "cat", "tee", "chmod", "mv", "rm", "mkdir", "rmdir",
      ] {
        let places = ["/usr/bin/\(program)", "/bin/\(program)", "/opt/homebrew/bin/\(program)"]
        let found = try #require(places.first { FileManager.default.isExecutableFile(atPath: $0) })
        try FileManager.default.createSymbolicLink(atPath: "\(folder)/\(program)", withDestinationPath: found)
      }
      let policy = "\(folder)/root/usr/sbin/policy-rc.d"
      try FileManager.default.createDirectory(atPath: "\(folder)/root/usr/sbin", withIntermediateDirectories: true)
      try FileManager.default.createDirectory(atPath: "\(folder)/root/etc", withIntermediateDirectories: false)
      try "somebody's own\n".write(toFile: policy, atomically: false, encoding: .utf8)
      let stubs = [
        "uname": "echo \(system)", "swift": "exit 0", "apt-cache": "echo '  Candidate: 1.0'",
        "apt-get": "echo \"APT-GET $*\"", "sudo": "[ \"$1\" = -n ] && shift; exec \"$@\"",
      ]
      for (name, line) in stubs {
        try "#!/bin/sh\n\(line)\n".write(toFile: "\(folder)/\(name)", atomically: false, encoding: .utf8)
        chmod("\(folder)/\(name)", 0o755)
      }
      let result = try await runCommand(
        "\(folder)/bash", ["-c", "exec bash \"$0\" \"$1\" 2>&1", "\(Readme.root)/Scripts/install-prerequisites", use],
        environment: ["PATH": folder, "DR_PREREQUISITES_ROOT": "\(folder)/root"])
      // What it changed for the time of the installation is as it was.
      #expect(try String(contentsOfFile: policy, encoding: .utf8) == "somebody's own\n")
      #expect(try FileManager.default.contentsOfDirectory(atPath: "\(folder)/root/usr/sbin") == ["policy-rc.d"])
      return (result.status, String(decoding: result.output, as: UTF8.self) + result.error)
    }
  }

  @Test("On Debian it says what it installs, and with which command, before it does", arguments: ["drill", "test"])
  func debian(use: String) async throws {
    let (status, said) = try await run(use, system: "Linux")
    let lines = said.split(separator: "\n")
    let missing = try #require(lines.firstIndex { $0.hasPrefix("prerequisites: missing: ") }, "\(said)")
    let command = try #require(lines.firstIndex { $0.contains("installing with: ") }, "\(said)")
    let install = try #require(lines.firstIndex { $0.hasPrefix("APT-GET ") && $0.contains(" install ") }, "\(said)")
    #expect(missing < command && command < install)
    for package in ["libpq-dev", "libssl-dev", "zlib1g-dev", "libzstd-dev", "libdeflate-dev", "age"] {
      #expect(lines[missing].contains(package) && lines[command].contains(package) && said.contains(package))
    }
    // The apt-get here installed nothing, which it notices.
    #expect(status == 1 && said.contains("is still not found"))
  }

  @Test("On macOS it names the Homebrew packages, and installs nothing", arguments: ["drill", "test"])
  func macOS(use: String) async throws {
    let (status, said) = try await run(use, system: "Darwin")
    let line = said.split(separator: "\n").first { $0.contains("brew install ") }
    for formula in ["libpq", "openssl@3", "zlib", "zstd", "libdeflate", "age"] {
      #expect(line?.contains(" \(formula)") == true, "\(said)")
    }
    #expect(status == 1 && !said.contains("APT-GET"))
  }
}
