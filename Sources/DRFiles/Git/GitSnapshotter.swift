public import DRCore
import DRStorage
public import Foundation
public import Logging
import NIOCore
public import ServiceLifecycle

/// Keeps the history of a tree in a bare git repository: a commit of what has changed, every so often.
///
/// The tree needs no repository, and may be one, or hold some: their `.git` is left alone and left out, and what they ignore or say in
/// `.gitattributes` counts for nothing here. Secrets (``SecretRules``) are left out under every name that they have, and so is what git takes
/// in no tree (`.GIT`, a symbolic link `.gitmodules`) and the repository itself; the commit says which. Times, owners and modes are kept in
/// notes beside the commits. `git clone` opens it.
///
/// Nothing but the tree's own files is read, and nothing in it is written. A commit is durable when ``take(logger:)`` returns; a
/// snapshotter that is killed leaves the branch as it was.
public struct GitSnapshotter: Service {
  /// A commit.
  public struct Snapshot: Hashable, Sendable {
    public var id: String
    public var time: Date
    /// The first line of its message.
    public var subject: String
  }

  /// What became of a look at the tree.
  public struct Outcome: Hashable, Sendable {
    /// Nil: nothing has changed since the last commit.
    public var snapshot: Snapshot?
    /// What of the tree is in no commit, and why: secrets, what git takes in no tree, patterns that match nothing.
    public var leftOut: [BackupManifest.Omission]
  }

  public static let branch = "main"
  private static let notes = GitTreeReader.notes

  public let source: FileTreeSource
  /// The bare repository: an absolute path. It is made by the first snapshot.
  public var repository: String
  /// `Name <address>`.
  public var author = "Disaster recovery <disaster-recovery@localhost>"
  /// The first line of each commit's message; nil: how many files changed.
  public var message: String?
  /// How long a snapshot waits for another one into the same repository.
  public var patience: Duration = .seconds(120)
  /// Between two looks, when it runs as a service.
  public var interval: Duration = .seconds(15 * 60)
  private let logger: Logger
  private let onSnapshot: @Sendable (Outcome) async -> Void

  /// - Parameters:
  ///   - source: What is captured: root, patterns, limits and rules for secrets.
  ///   - logger: Used by ``run()``.
  ///   - onSnapshot: Told by ``run()`` of each commit that was made.
  public init(
    _ source: FileTreeSource, to repository: String, logger: Logger,
    onSnapshot: @escaping @Sendable (Outcome) async -> Void = { _ in }
  ) {
    self.source = source
    self.repository = repository
    self.logger = logger
    self.onSnapshot = onSnapshot
  }

  /// Takes a snapshot now and every ``interval`` until the service is shut down gracefully, or cancelled. What fails is logged and tried
  /// again at the next.
  public func run() async throws {
    try await cancelWhenGracefulShutdown {
      do {
        while true {
          do {
            let outcome = try await take(logger: logger)
            if outcome.snapshot != nil { await onSnapshot(outcome) }
          } catch let error as DRError where error.code != .invalidConfiguration {
            logger.error("no snapshot was taken; trying again later", metadata: ["error": "\(error)"])
          }
          try await Task.sleep(for: interval)
        }
      } catch is CancellationError {
        // Told to stop.
      }
    }
  }

  /// As ``take(logger:)``. Nil: nothing has changed.
  public func snapshot(logger: Logger) async throws -> Snapshot? { try await take(logger: logger).snapshot }

  /// Commits what has changed since the last commit.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `programFailed`, `invalidConfiguration`; `timedOut` if another snapshot takes longer than
  ///   ``patience``; `secretsUnencrypted` for a large file into which a private key came while it was read.
  public func take(logger: Logger) async throws -> Outcome {
    guard !author.contains(where: { $0.isNewline }), author.wholeMatch(of: /[^<>]* <[^<>]*>/) != nil else {
      throw DRError(.invalidConfiguration, "the author of a commit is 'Name <address>'", object: author)
    }
    let git = try GitRepository(repository)
    try await git.make()
    let lock = try await git.lock(within: patience)
    defer { withExtendedLifetime(lock) {} }
    try await sweep(git)
    let last = try await git.ask(["rev-parse", "--verify", "--quiet", "refs/heads/\(Self.branch)"])
    let notes = try await git.ask(["rev-parse", "--verify", "--quiet", Self.notes])
    let number = UUID().uuidString
    let (next, nextNotes) = ("refs/dr/\(number)", "refs/dr-notes/\(number)")
    do {
      let (report, moment) = try await submit(to: git, next, last, (nextNotes, notes))
      let id = try await git.run(["rev-parse", next])
      let (tree, former) = (
        try await git.run(["rev-parse", "\(next)^{tree}"]),
        try await git.ask(["rev-parse", "\(last ?? "none")^{tree}"])
      )
      guard tree != former else {
        try await git.forget([next, nextNotes])
        return Outcome(snapshot: nil, leftOut: leftOut(report))
      }
      // Both or none, and only if nobody else was faster.
      let zero = String(repeating: "0", count: 40)
      let update = """
        start
        update \(Self.notes) \(try await git.run(["rev-parse", nextNotes])) \(notes ?? zero)
        update refs/heads/\(Self.branch) \(id) \(last ?? zero)
        delete \(next)
        delete \(nextNotes)
        prepare
        commit

        """
      try await git.run(["update-ref", "--stdin"], input: ByteStream(ByteBuffer(string: update)))
      logger.info(
        "files committed",
        metadata: ["git.commit": "\(id)", "files.count": "\(report.files)", "files.secrets": "\(report.secrets.count)"])
      // Packs of many small commits are put together now and then.
      _ = try await git.ask(["gc", "--auto", "--quiet"])
      let subject = try await git.run(["log", "-1", "--format=%s", id])
      return Outcome(snapshot: Snapshot(id: id, time: moment, subject: subject), leftOut: leftOut(report))
    } catch {
      // Not cancelled with the snapshot.
      await Task { try? await git.forget([next, nextNotes]) }.value
      throw error
    }
  }

  /// Removes what snapshotters that were killed have left, once nobody can be working on it.
  private func sweep(_ git: GitRepository) async throws {
    let format = "--format=%(refname) %(committerdate:unix)"
    let refs = try await git.run(["for-each-ref", format, "refs/dr", "refs/dr-notes"])
    let old = Date().timeIntervalSince1970 - 3600
    for line in refs.split(separator: "\n") {
      let fields = line.split(separator: " ")
      if fields.count == 2, Double(fields[1]) ?? .infinity < old { try await git.forget([String(fields[0])]) }
    }
  }

  /// Reads the tree into a commit of its own.
  private func submit(
    to git: GitRepository, _ ref: String, _ parent: String?, _ notes: (ref: String, parent: String?)
  ) async throws -> (TreeReport, Date) {
    let executor = BlockingExecutor(label: "files.git")
    var tree = source
    tree.excluded += [".git"]
    var settings = try TreeCursor.Settings(tree, encrypts: true)
    settings.leavesOutSecrets = true
    settings.keepsHoles = false
    settings.refusal = GitName.whyRefused
    settings.passedOver = try repositoryIdentity().map { ($0, "it is the repository of these snapshots") }
    let cursorSettings = settings
    let cursor = try await executor.run { try TreeCursor(cursorSettings, isSurvey: false) }
    let state = MutableBox((import: FastImport(), hasEnded: false, moment: Date()))
    let stream = ByteStream {
      try Task.checkCancellation()
      while !state.value.hasEnded {
        var out = ByteBuffer()
        if let frame = try await executor.run({ try cursor.fill(ByteBuffer()) }) {
          try state.withLock { try $0.import.pass(frame, into: &out) }
        } else {
          // Git counts in seconds: what was committed within one is not asked for at its beginning.
          let moment = Date(timeIntervalSince1970: Date().timeIntervalSince1970.rounded(.up))
          let commit = try state.value.import.commit(
            to: ref, from: parent, by: author, at: moment, message: text(cursor.report, state.value.import.count),
            notes: notes)
          state.withLock {
            $0.hasEnded = true
            $0.moment = moment
          }
          out.writeImmutableBuffer(commit)
        }
        if out.readableBytes > 0 { return out }
      }
      return nil
    }
    try await git.run(["fast-import", "--quiet", "--done", "--force", "--date-format=raw"], input: stream)
    return (cursor.report, state.value.moment)
  }

  private func repositoryIdentity() throws -> FileStatus.Identity? {
    do { return try Descriptor.root(repository).fileStatus().identity } catch { throw error.reading(repository.utf8) }
  }

  private func text(_ report: TreeReport, _ files: Int) -> String {
    let first = message ?? "\(files) files of \(source.root)"
    var lines = [first.split(whereSeparator: \.isNewline).first.map(String.init) ?? "snapshot", ""]
    lines += leftOut(report).map { "Left-Out: \($0.what): \($0.reason)" }
    return lines.joined(separator: "\n")
  }

  private func leftOut(_ report: TreeReport) -> [BackupManifest.Omission] {
    report.leftOut(patterns: (try? PathSelection(included: source.included)) ?? PathSelection.everything)
  }

  // MARK: Looking back

  /// The commits of a repository, the newest first.
  ///
  /// - Throws: ``DRError``.
  public static func snapshots(in repository: String, limit: Int = 1000) async throws -> [Snapshot] {
    let git = try GitRepository(repository)
    try missing(git)
    let log = try await git.ask(["log", "-n", "\(limit)", "--format=%H%x09%ct%x09%s", "refs/heads/\(branch)"]) ?? ""
    return log.split(separator: "\n").compactMap { line in
      let fields = line.split(separator: "\t", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3, let seconds = Double(fields[1]) else { return nil }
      return Snapshot(id: String(fields[0]), time: Date(timeIntervalSince1970: seconds), subject: String(fields[2]))
    }
  }

  private static func missing(_ git: GitRepository) throws {
    guard git.isThere else {
      guard FileManager.default.fileExists(atPath: git.path + "/.git") else {
        throw DRError(.objectNotFound, "there is no git repository", advice: "see its path", object: git.path)
      }
      throw DRError(
        .objectNotFound, "it is a git repository with a working tree, and none that snapshots are taken into",
        advice: "name the bare repository; of another one, its .git", object: git.path)
    }
  }

  /// Gives a commit to a body as a backup that ``FileTreeRestorer`` restores, compares and lists.
  ///
  /// - Parameters:
  ///   - commit: As git names commits; nil: the newest.
  ///   - moment: The newest that was made by then.
  /// - Throws: ``DRError``: `targetUnreachable`, `objectNotFound`; what the body throws.
  public static func withSnapshot<Result: Sendable>(
    _ commit: String? = nil, by moment: Date? = nil, in repository: String,
    _ body: @escaping @Sendable (any BackupReader) async throws -> Result
  ) async throws -> Result {
    let git = try GitRepository(repository)
    try missing(git)
    let id: String
    if let commit {
      guard !commit.hasPrefix("-"),
        let found = try await git.ask(["rev-parse", "--verify", "--quiet", "--end-of-options", "\(commit)^{commit}"])
      else {
        throw DRError(
          .objectNotFound, "there is no commit '\(commit.prefix(80))'", advice: "list the snapshots", object: repository
        )
      }
      id = found
    } else {
      let before = moment.map { ["--before=\(Int64($0.timeIntervalSince1970.rounded(.down)))"] } ?? []
      let found = try await git.ask(["rev-list", "-1"] + before + ["refs/heads/\(branch)"]) ?? ""
      guard !found.isEmpty else {
        throw DRError(
          .targetUnreachable,
          moment.map { "no snapshot was taken by \(Timestamp.format($0))" } ?? "no snapshot was taken yet",
          advice: "list the snapshots", object: repository)
      }
      id = found
    }
    return try await body(try await GitTreeReader(git, id))
  }
}
