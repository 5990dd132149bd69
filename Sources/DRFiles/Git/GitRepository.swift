import DRCore
import DRSandbox
import DRStorage
import Foundation

/// A bare repository of our own, through the `git` command.
///
/// The system's and the user's configuration steer nothing, nor do the variables of a hook that this runs in.
struct GitRepository: Sendable {
  let path: String
  private let program: String
  private static let limit: Duration = .seconds(600)

  /// - Throws: ``DRError`` with `invalidConfiguration` if there is no git.
  init(_ path: String) throws {
    guard path.hasPrefix("/"), !path.utf8.contains(0) else {
      throw DRError(.invalidConfiguration, "the path of a git repository is absolute", object: path)
    }
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
    guard let program = folders.map({ "\($0)/git" }).first(where: { FileManager.default.isExecutableFile(atPath: $0) })
    else {
      throw DRError(.invalidConfiguration, "git is not installed", advice: "install it (Debian: apt install git)")
    }
    self.path = path
    self.program = program
  }

  private var environment: [String: String] {
    [
      "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
      "GIT_OPTIONAL_LOCKS": "0",
    ]
  }

  private func arguments(_ arguments: [String]) -> [String] {
    // It may be somebody else's, whom root serves.
    [
      "-c", "safe.directory=*", "-c", "core.fsync=all", "-c", "gc.auto=200",
      // Names that other systems take for .git are names like others here.
      "-c", "core.protectNTFS=false", "-c", "core.protectHFS=false",
      // Git puts packs together on its own behind a commit, and holds the names meanwhile.
      "-c", "core.packedRefsTimeout=30000", "-c", "core.filesRefLockTimeout=30000", "--git-dir=\(path)",
    ] + arguments
  }

  var isThere: Bool { FileManager.default.fileExists(atPath: path + "/HEAD") }

  /// Makes it, if it is not there.
  func make() async throws {
    guard !isThere else { return }
    if let names = try? FileManager.default.contentsOfDirectory(atPath: path), !names.isEmpty {
      throw DRError(
        .destinationInUse, "the folder holds something that is no git repository", advice: "name another one",
        object: path)
    }
    try await run(["init", "--bare", "--quiet", "--initial-branch=\(GitSnapshotter.branch)", path], bare: true)
    // Over whatever a tree says of itself: all of it is kept and comes back, byte by byte.
    let attributes = "* -text -filter -ident -working-tree-encoding -export-ignore -export-subst\n"
    try attributes.write(toFile: path + "/info/attributes", atomically: true, encoding: .utf8)
    chmod(path, 0o700)
  }

  /// Runs a command, which has to succeed.
  ///
  /// - Returns: What it wrote, without the last newline.
  @discardableResult
  func run(_ command: [String], bare: Bool = false) async throws -> String {
    let result = try await runProgram(
      program, bare ? ["-c", "core.fsync=all"] + command : arguments(command), environment: environment,
      limit: GitRepository.limit)
    guard result.status == 0 else { throw failed(command, result.status, result.error) }
    return result.output.hasSuffix("\n") ? String(result.output.dropLast()) : result.output
  }

  /// As ``run(_:bare:)``; nil if the command says no.
  func ask(_ command: [String]) async throws -> String? {
    let result = try await runProgram(
      program, arguments(command), environment: environment, limit: GitRepository.limit)
    guard result.status == 0 else { return nil }
    return result.output.hasSuffix("\n") ? String(result.output.dropLast()) : result.output
  }

  /// Waits until no other snapshot is being taken; it may not be followed by another as long as the lock is held.
  ///
  /// - Throws: ``DRError`` with `timedOut`.
  func lock(within limit: Duration) async throws -> Descriptor {
    let folder: Descriptor
    do { folder = try Descriptor.root(path) } catch { throw error.reading(path.utf8) }
    let deadline = ContinuousClock.now + limit
    while flock(folder.number, LOCK_EX | LOCK_NB) != 0 {
      guard ContinuousClock.now < deadline else {
        throw DRError(
          .timedOut, "another snapshot has been taken into this repository for \(limit)",
          advice: "see what it waits for, or try again later", object: path)
      }
      try await Task.sleep(for: .milliseconds(50))
    }
    return folder
  }

  /// - Throws: The first failure, once each was tried.
  func forget(_ refs: [String]) async throws {
    var failure: (any Error)?
    for ref in refs {
      do {
        try await run(["update-ref", "-d", ref])
      } catch {
        failure = failure ?? error
      }
    }
    if let failure { throw failure }
  }

  func run(_ command: [String], input: ByteStream) async throws {
    let result = try await runProgram(
      program, arguments(command), environment: environment, input: input, silence: GitRepository.limit)
    guard result.status == 0 else { throw failed(command, result.status, result.error) }
  }

  /// What a command writes, as a stream, for as long as the body runs.
  func withOutput<Result: Sendable>(
    of command: [String], input: ByteStream? = nil, _ body: @escaping @Sendable (ByteStream) async throws -> Result
  ) async throws -> Result {
    try await DRSandbox.withOutput(
      of: program, arguments(command), environment: environment, input: input, silence: GitRepository.limit, body
    ).result
  }

  private func failed(_ command: [String], _ status: Int32, _ said: String) -> DRError {
    let words = said.split(separator: "\n").suffix(5).joined(separator: "; ")
    return DRError(
      .programFailed, "git \(command.first ?? "") ended with \(status): \(words)",
      advice: "see the repository (git fsck) and the space on its disk", object: path)
  }
}
