public import DRCore
import DRStorage
public import Foundation
public import Logging
import NIOCore
public import ServiceLifecycle

/// Runs jobs at their times, on one of several hosts.
///
/// The hosts share a tier: whoever holds the lease `scheduler-<name>` works, the others wait for it to end. What it remembers
/// (``ScheduleBook``) is an object of the tier, `schedules/<name>/<token of the lease>.json`, so that another host, or this one after a
/// restart, goes on where it was; an owner that lost the lease writes to an object that nobody reads any more.
///
/// Of one job never two runs go on at once on the host that holds the lease. When the lease is lost, all that runs is cancelled. A shutdown begins
/// nothing any more, ends what runs all the time, lets the rest come to its end for ``grace``, then cancels it; a run that was cancelled is
/// tried again by the next owner.
public struct Scheduler: Service {
  /// What is told while it runs.
  public enum Event: Sendable {
    /// Another host holds the lease.
    case waiting
    case working(token: Int64)
    case decided(ScheduleBook.Decision)
    case ended(job: String, outcome: ScheduleBook.Outcome, evidence: String, took: Span, again: Date?)
    case leaseLost
    /// What is remembered could not be stored: after a crash, runs may be repeated.
    case notStored(error: String)
  }

  public let name: String
  public let jobs: [ScheduledJob]
  public let timeZone: TimeZone
  /// How long a shutdown waits for runs that go on.
  public var grace: Span = .minutes(5)
  /// How long the lease of a host that died lives on.
  public var leaseLife: Span = .seconds(60)
  public var onEvent: @Sendable (Event) async -> Void = { _ in }
  private let tier: any StorageTier
  private let logger: Logger

  /// - Parameters:
  ///   - name: Lower-case letters, digits, underscores and hyphens, a letter first: hosts with one name share the work.
  ///   - tier: Where the lease and what is remembered are.
  ///   - logger: Used by ``run()``.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for jobs out of range or of one name, and for a time zone that is none.
  public init(_ name: String, jobs: [ScheduledJob], timeZone: String, on tier: any StorageTier, logger: Logger) throws {
    guard let zone = TimeZone(identifier: timeZone) else {
      throw DRError(.invalidConfiguration, "'\(timeZone.prefix(40))' is no time zone", advice: "write Europe/Berlin")
    }
    guard name.wholeMatch(of: /[a-z][a-z0-9_-]{0,99}/) != nil else {
      throw DRError(
        .invalidConfiguration, "'\(name.prefix(64))' cannot be the name of a scheduler",
        advice: "lower-case letters, digits, underscores and hyphens, a letter first")
    }
    var known: Set<String> = []
    for job in jobs {
      try job.check()
      guard known.insert(job.id).inserted else {
        throw DRError(.invalidConfiguration, "two jobs are named '\(job.id)'", object: job.id)
      }
    }
    self.name = name
    self.jobs = jobs
    self.timeZone = zone
    self.tier = tier
    self.logger = logger
  }

  /// What the owner of a scheduler has stored last; nil: there has been none.
  ///
  /// - Throws: As the tier's `list` and `get`; ``DRCore/DRError`` with `malformedData`.
  public static func book(of name: String, on tier: any StorageTier) async throws -> ScheduleBook? {
    try await ScheduleStore(name: name, tier: tier).read()
  }

  private static let patience = Duration.seconds(86_400)

  /// Runs until it is shut down or cancelled. A tier that is away is waited for.
  ///
  /// - Throws: ``DRCore/DRError`` with `unsupported` for a tier without conditional put.
  public func run() async throws {
    var backOff = BackOff(shortest: .seconds(1), longest: .seconds(60))
    while !Task.isCancelled, !Task.isShuttingDownGracefully {
      do {
        // One wait, however long: a lease counts as that of a dead host once it was seen not to change for longer than its life,
        // which whoever holds it has chosen.
        let settings = Lease.Settings(life: leaseLife.duration, patience: Self.patience)
        try await cancelUnlessHeld { held in
          let waiting = Task {
            try await Task.sleep(for: .seconds(5))
            await onEvent(.waiting)
          }
          defer { waiting.cancel() }
          try await Lease.with("scheduler-\(name)", on: tier, settings, logger: logger) { lease in
            waiting.cancel()
            held()
            await onEvent(.working(token: lease.token))
            try await SchedulerWork(self, ScheduleStore(name: name, tier: tier), lease, logger).run()
          }
        }
        return
      } catch is CancellationError {
        return
      } catch let error as DRError where error.code == .leaseHeld {
        continue
      } catch let error as DRError where error.code == .leaseLost {
        logger.warning("the scheduler's lease was lost", metadata: ["error": "\(error)"])
        await onEvent(.leaseLost)
      } catch let error as DRError where [.tierUnavailable, .timedOut, .notWritable, .noSpace].contains(error.code) {
        logger.error("the scheduler's tier is away; waiting for it", metadata: ["error": "\(error)"])
        do { try await Task.sleep(for: backOff.next()) } catch { return }
      }
    }
  }

  /// While another host holds the lease, a shutdown ends the wait; later the work itself sees to it.
  private func cancelUnlessHeld(
    _ body: @escaping @Sendable (_ held: @escaping @Sendable () -> Void) async throws -> Void
  ) async throws {
    let isHeld = MutableBox(false)
    try await withThrowingTaskGroup(of: Bool.self) { group in
      group.addTask {
        try await body { isHeld.withLock { $0 = true } }
        return true
      }
      group.addTask {
        try await gracefulShutdown()
        return false
      }
      defer { group.cancelAll() }
      while let isDone = try await group.next() {
        if isDone { return }
        if !isHeld.value { throw CancellationError() }
      }
    }
  }

}

/// Where what is remembered is stored.
struct ScheduleStore: Sendable {
  var name: String
  var tier: any StorageTier

  private var prefix: String { "schedules/\(name)/" }

  private func key(_ token: Int64) throws -> ObjectKey {
    let digits = String(token)
    return try ObjectKey(prefix + String(repeating: "0", count: max(0, 16 - digits.count)) + digits + ".json")
  }

  /// Of the owner with the highest token.
  func read() async throws -> ScheduleBook? {
    guard let last = try await tier.listAll(prefix: prefix).map(\.key).max(by: { $0.rawValue < $1.rawValue }) else {
      return nil
    }
    let buffer = try await tier.read(last, limit: 16 << 20)
    do {
      let decoder = JSONDecoder()
      decoder.dateDecodingStrategy = .secondsSince1970
      return try decoder.decode(ScheduleBook.self, from: Data(buffer.readableBytesView))
    } catch {
      throw DRError(
        .malformedData, "what a scheduler remembered cannot be read",
        advice: "remove it: then every job counts from now on", object: last.rawValue, cause: error)
    }
  }

  func write(_ book: ScheduleBook, _ lease: Lease) async throws {
    try lease.check()
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .secondsSince1970
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    _ = try await tier.put(
      try key(lease.token), ByteStream(ByteBuffer(bytes: try encoder.encode(book))), PutOptions())
  }

  /// Removes what owners before have stored.
  func removeBefore(_ lease: Lease) async throws {
    let own = try key(lease.token)
    for object in try await tier.listAll(prefix: prefix) where object.key.rawValue < own.rawValue {
      try await tier.delete(object.key)
    }
  }
}
