import DRCore
import DRPostgres
import DRSandbox
import DRTestSupport
import Foundation
import Logging
import Testing

/// A folder in which the scenarios' plans are run as an operator would, with our programs and PostgreSQL's on the path.
struct ScenarioPlace: Sendable {
  static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  let folder: String
  /// Whom PostgreSQL's servers do not refuse, if this process is root.
  let user: ServerUser?
  /// Programs are run as that user.
  var isServerUser = false
  var environment: [String: String]

  static func with(
    _ programs: [String], environment: [String: String] = [:], _ body: (ScenarioPlace) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      chmod(folder, 0o711)
      // A service that was killed has left what it ran.
      defer { killAll(in: folder) }
      let user = try ServerUser.needed("postgres")
      let bin = "\(folder)/bin"
      try FileManager.default.createDirectory(atPath: bin, withIntermediateDirectories: false)
      for program in programs + ["dr-plan"] {
        try FileManager.default.copyItem(atPath: ReceiverProcess.built(program), toPath: "\(bin)/\(program)")
      }
      let postgres = try await PostgresInstallation.find().binFolder
      let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
      try user?.own(folder)
      let place = ScenarioPlace(
        folder: folder, user: user,
        environment: environment.merging(["PATH": "\(bin):\(postgres):\(path)", "HOME": folder]) { $1 })
      try await body(place)
    }
  }

  private static func killAll(in folder: String) {
    let all = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }
    for process in all where process != getpid() {
      let words = (try? Data(contentsOf: URL(filePath: "/proc/\(process)/cmdline"))) ?? Data()
      if String(decoding: words, as: UTF8.self).contains("\(folder)/") { Foundation.kill(process, SIGKILL) }
    }
  }

  static func plan(_ name: String) -> String { "\(Readme.root)/Examples/scenarios/\(name).json5" }

  /// Writes a file that the place's user can read.
  func write(_ text: String, to name: String, mode: mode_t = 0o644) throws {
    let path = "\(folder)/\(name)"
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    chmod(path, mode)
    try user?.own(path)
  }

  func configure(_ component: String, repository: String? = nil) throws -> String {
    let name = component.replacing("/", with: "-")
    let place = repository ?? "\(folder)/repository-\(name)"
    try write(
      "{\"repository\": \"\(place)\", \"component\": \"\(component)\", \"plaintext\": true}", to: "\(name).json")
    return "\(folder)/\(name).json"
  }

  private func command(_ program: String, _ arguments: [String]) -> (String, [String]) {
    guard isServerUser, let words = setpriv else { return ("/usr/bin/env", [program] + arguments) }
    return ("/usr/bin/env", words + ["env", program] + arguments)
  }

  /// What has a program run as that user.
  var setpriv: [String]? {
    user.map { ["setpriv", "--reuid=\($0.userID)", "--regid=\($0.groupID)", "--clear-groups", "--"] }
  }

  var asServerUser: ScenarioPlace {
    var place = self
    place.isServerUser = true
    return place
  }

  func run(_ program: String, _ arguments: [String], limit: Duration = .seconds(240)) async throws -> ProgramAnswer {
    let (path, all) = command(program, arguments)
    let result = try await runCommand(
      path, all, environment: environment, workingDirectory: folder, timeLimit: limit)
    return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
  }

  @discardableResult
  func done(_ program: String, _ arguments: String...) async throws -> String {
    let answer = try await run(program, arguments)
    try #require(answer.status == 0, "\(program) \(arguments): \(answer)")
    return answer.output
  }

  /// A program that goes on; ended with the body.
  func whileRunning<Result>(
    _ program: String, _ arguments: [String], ending signal: Int32 = SIGTERM,
    _ body: (RunningProgram) async throws -> Result
  ) async throws -> Result {
    let words = ["-i"] + environment.map { "\($0)=\($1)" } + [program] + arguments
    let all = isServerUser ? (setpriv.map { $0 + ["env"] + words } ?? words) : words
    let path = "/usr/bin/env"
    let running = try RunningProgram(all, of: path, in: folder)
    let result = try await body(running)
    running.send(signal)
    _ = try await running.end(within: .seconds(60))
    return result
  }

  /// Carries out a scenario's plan.
  func recover(_ scenario: String, journal: String = "journal", _ values: [String: String]) async throws
    -> ProgramAnswer
  {
    let plan = try String(contentsOfFile: Self.plan(scenario), encoding: .utf8)
    try write(plan, to: "plan.json5", mode: 0o644)
    let sets = values.sorted { $0.key < $1.key }.flatMap { ["--set", "\($0.key)=\($0.value)"] }
    let dry = try await run("dr-plan", ["recover", "plan.json5"] + sets)
    #expect(dry.status == 0 && dry.output.contains("nothing was done"), "\(dry)")
    return try await run(
      "dr-plan", ["recover", "plan.json5", "--execute", "--journal", journal] + sets, limit: .seconds(400))
  }
}
