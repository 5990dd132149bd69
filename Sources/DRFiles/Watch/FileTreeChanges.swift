public import DRCore
public import DRStorage
import Foundation
public import Logging
public import ServiceLifecycle

/// Captures a tree whenever something in it changes: certificates and keys are stored within seconds.
///
/// The kernel says when (inotify; elsewhere the tree is looked at twice a second). Changes that come together are one backup: it waits
/// until nothing has changed for a moment, but not for long. Each time, and now and then without being told, names, lengths,
/// times and owners are compared with those of the last backup: where they are the same, also after a restart, nothing is captured.
///
/// A repository that is away is tried again. A root that is away is waited for: it is no empty tree.
public struct FileTreeChanges: ChangeSource, Service {
  public struct Options: Sendable {
    /// How long nothing may have changed before a capture begins.
    public var calm: Duration = .milliseconds(200)
    /// How long it waits for that at most.
    public var longestWait: Duration = .seconds(1)
    /// Captures that may follow one another at once. Where a tree never stands still, the pauses between the next ones double.
    public var burst = 20
    /// The longest of these pauses.
    public var longestInterval: Duration = .seconds(60)
    /// How often the tree is looked at though nobody said that it changed: network file systems tell nothing of others' changes.
    public var rescanInterval: Duration = .seconds(60)
    /// The longest pause between two attempts after a failure.
    public var longestPause: Duration = .seconds(30)

    public init() {}
  }

  public let source: FileTreeSource
  public let repository: Repository
  public var cadence: Cadence
  public var encoding: Encoding
  public var options: Options
  private let logger: Logger
  private let onBackup: @Sendable (BackupManifest) async -> Void

  /// - Parameters:
  ///   - cadence: The folder of the plan's tree in which the backups lie.
  ///   - logger: Used by ``run()``.
  ///   - onBackup: Told each backup that is committed.
  public init(
    _ source: FileTreeSource, to repository: Repository, cadence: Cadence = .hourly, encoding: Encoding = Encoding(),
    options: Options = Options(), logger: Logger,
    onBackup: @escaping @Sendable (BackupManifest) async -> Void = { _ in }
  ) {
    self.source = source
    self.repository = repository
    self.cadence = cadence
    self.encoding = encoding
    self.options = options
    self.logger = logger
    self.onBackup = onBackup
  }

  public var component: Component { source.component }

  /// Follows the changes until the service is shut down gracefully, or cancelled. A capture that is under way then is given up: the
  /// next start makes it.
  public func run() async throws {
    try await cancelWhenGracefulShutdown {
      do {
        try await follow(logger: logger) { _ in }
      } catch is CancellationError {
        // Told to stop.
      }
    }
  }

  /// - Throws: ``DRError``: `secretsUnencrypted`; `invalidConfiguration`, also where the system allows no further watch;
  ///   `CancellationError`.
  public func follow(
    logger: Logger, onDurable: @escaping @Sendable (RecoveryPoint) async -> Void
  ) async throws {
    let executor = BlockingExecutor(label: "files.watch")
    let watch = try await executor.run { try TreeWatch() }
    var pause = BackOff(longest: options.longestPause)
    var failures = RepeatedError()
    var stored = try await lastFingerprint(logger)
    var rate = CaptureRate(burst: options.burst, longest: options.longestInterval)
    while true {
      do {
        let source = source
        let now = try await executor.run {
          try TreeFingerprint.take(source) { folder, _ in try watch.add(folder) }
        }
        if now != stored {
          var current = source
          current.fingerprint = now
          let manifest = try await repository.backUp(current, cadence: cadence, encoding: encoding, logger: logger)
          stored = now
          rate.note(.now)
          await onDurable(manifest.recoveryPoint)
          await onBackup(manifest)
        }
        if let time = failures.end() {
          logger.notice("files are captured again", metadata: ["files.failed_for": "\(time)"])
        }
        pause.reset()
        try await nextChange(watch, executor)
        let wait = rate.pause(before: .now)
        if wait >= .seconds(8) {
          logger.notice(
            "the tree never stands still; captures are made less often: exclude what need not be kept, such as logs",
            metadata: ["files.pause": "\(wait.components.seconds) s"])
        }
        try await Task.sleep(for: wait)
      } catch {
        let error = try passing(error)
        switch failures.next(error) {
        case .full: logger.error("files cannot be captured; trying again", metadata: ["error": "\(error)"])
        case .short(let since):
          logger.error(
            "files still cannot be captured",
            metadata: ["since": "\(since.components.seconds) s", "error": "\(error.code)"])
        case .nothing: break
        }
        try await Task.sleep(for: pause.next())
      }
    }
  }

  /// Returns once something has changed and a moment of calm has followed, or when the tree is to be looked at anyway.
  private func nextChange(_ watch: TreeWatch, _ executor: BlockingExecutor) async throws {
    func changes(within time: Duration) async throws -> Bool {
      let milliseconds = Int32(clamping: Int64(max(time, .zero) / .milliseconds(1)))
      return try await executor.run { try watch.wait(milliseconds: milliseconds) }
    }
    let rescan = ContinuousClock.now + options.rescanInterval
    while true {
      try Task.checkCancellation()
      if try await changes(within: min(.milliseconds(500), ContinuousClock.now.duration(to: rescan))) { break }
      if ContinuousClock.now >= rescan { return }
    }
    let latest = ContinuousClock.now + options.longestWait
    while ContinuousClock.now < latest {
      try Task.checkCancellation()
      if try await !changes(within: min(options.calm, ContinuousClock.now.duration(to: latest))) { return }
    }
  }

  /// Of the newest backup, if that was taken by a watch.
  private func lastFingerprint(_ logger: Logger) async throws -> String? {
    do {
      let backups = try await repository.catalog(of: component).backups
      return backups.max { ($0.ended, $0.id) < ($1.ended, $1.id) }?.properties["fingerprint"]?.string
    } catch let error as DRError where error.code == .tierUnavailable {
      logger.warning("the last backup is not known: everything is captured", metadata: ["error": "\(error)"])
      return nil
    }
  }

  /// An error that may pass by itself.
  ///
  /// - Throws: One that needs a person.
  private func passing(_ error: any Error) throws -> DRError {
    if let error = error as? SystemError { return error.reading(source.root.utf8) }
    let codes: Set<DRError.Code> = [.tierUnavailable, .noSpace, .notWritable, .timedOut, .sourceFailed, .corruptData]
    guard let error = error as? DRError, codes.contains(error.code) else { throw error }
    return error
  }
}
