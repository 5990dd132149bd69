import DRPostgres
import DRTestSupport
import Foundation

/// A folder with a configuration, in which a program is run as one person would: `dr-postgres`, unless another is named.
struct ProgramPlace {
  let folder: String
  let config: String
  let repository: String
  /// The path of the program.
  var program = ProgramPlace.program

  /// That of `dr-postgres`.
  static let program = ReceiverProcess.built("dr-postgres")

  /// - Parameter fields: More of the configuration, as JSON.
  static func with(
    _ program: String = "dr-postgres", component: String = "postgres/test", fields: String = ", \"plaintext\": true",
    _ body: (ProgramPlace) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      let place = ProgramPlace(
        folder: folder, config: folder + "/dr.json", repository: folder + "/repository",
        program: ReceiverProcess.built(program))
      try place.configure(component: component, fields: fields)
      try await body(place)
    }
  }

  func configure(component: String = "postgres/test", fields: String = ", \"plaintext\": true") throws {
    try "{\"repository\": \"\(repository)\", \"component\": \"\(component)\"\(fields)}".write(
      toFile: config, atomically: true, encoding: .utf8)
  }

  /// The arguments of a command that is to work on this place.
  func arguments(_ arguments: [String], at server: PostgresSandbox? = nil) -> [String] {
    [arguments[0], "--config", config] + arguments.dropFirst()
      + (server.map { ["--server", ReceiverProcess.conninfo($0.settings)] } ?? [])
  }

  /// What a command that was run to its end said.
  struct Said {
    var status: Int32
    var output: String
    var error: String
  }

  func run(_ arguments: String..., at server: PostgresSandbox? = nil) async throws -> Said {
    try await run(arguments, at: server)
  }

  func run(_ arguments: [String], at server: PostgresSandbox? = nil) async throws -> Said {
    let result = try await runCommand(program, self.arguments(arguments, at: server), workingDirectory: folder)
    return Said(status: result.status, output: String(decoding: result.output, as: UTF8.self), error: result.error)
  }

  /// The files and folders of the repository whose paths contain a text; all, if it is empty.
  func files(_ text: String) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: repository).filter { text.isEmpty || $0.contains(text) }
      .sorted()
      .map { "\(repository)/\($0)" }
  }

  /// The files of the repository, without its folders, which may stay empty, and without the audit trail, which tells of everything.
  func plainFiles() throws -> [String] {
    var isFolder: ObjCBool = false
    return try files("").filter {
      FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder) && !isFolder.boolValue
        && !$0.hasPrefix("\(repository)/audit/")
    }
  }
}
