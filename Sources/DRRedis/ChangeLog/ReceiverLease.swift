import DRCore
import DRStorage
import Logging

/// The right to store the changes of a component: of two receivers in one repository, one waits and is refused.
///
/// It is renewed beside the work. While the tier is away it may run out; then nothing is stored until it is held again, and
/// what the receiver has spooled is stored only if no other was there meanwhile.
///
/// A write that was on its way when the lease ran out may come late: then segments overlap, which a restore can read
/// (``ChangeWalk``).
final class ReceiverLease: Sendable {
  private struct State {
    var lease: Lease?
    /// Of the last lease under which something was stored.
    var token: Int64?
    var failure: DRError?
    var hasEnded = false
  }

  private let archive: RedisLogArchive
  private let settings: Lease.Settings
  private let logger: Logger
  private let state = MutableBox(State())

  init(_ archive: RedisLogArchive, _ settings: Lease.Settings, logger: Logger) {
    (self.archive, self.settings, self.logger) = (archive, settings, logger)
  }

  /// Whether another receiver has it.
  var isTaken: Bool { state.withLock { $0.failure != nil } }

  /// - Throws: ``DRError`` with `leaseLost` if another receiver has it.
  func refuseTaken() throws {
    if let failure = state.withLock({ $0.failure }) { throw failure }
  }

  /// Runs a body once the lease is held, and releases it afterwards.
  ///
  /// - Throws: ``DRError``: `leaseHeld` if another receiver does not end within the patience; `unsupported`; what the body throws.
  func hold(_ body: () async throws -> Void) async throws {
    // Not a child: the lease is needed until the rest is stored, after a cancellation.
    let keeping = Task { await keep() }
    do {
      try await permit { true }
      try await body()
      await end(keeping)
    } catch {
      await end(keeping)
      throw error
    }
  }

  /// Waits until the lease is held.
  ///
  /// - Parameter isUntouched: Whether nobody else has stored anything; asked if the lease may have been another's meanwhile.
  /// - Throws: ``DRError``: `leaseHeld`, `leaseLost`; `CancellationError`.
  func permit(_ isUntouched: () async throws -> Bool) async throws {
    while true {
      try refuseTaken()
      let (lease, token) = state.withLock { ($0.lease, $0.token) }
      if let lease, (try? lease.check()) != nil {
        guard lease.token != token else { return }
        if let token, lease.token != token + 1, try await !isUntouched() {
          state.withLock { $0.failure = lost }
          continue
        }
        state.withLock { $0.token = lease.token }
        return
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  private func keep() async {
    var failures = RepeatedError()
    let passing: Set<DRError.Code> = [.tierUnavailable, .noSpace, .notWritable, .timedOut]
    while !Task.isCancelled, !isTaken {
      var settings = settings
      // To outwait its own, that it could not release, and no more: what it has spooled grows.
      if state.withLock({ $0.token != nil }) { settings.patience = settings.life * 1.5 }
      do {
        try await Lease.with(
          "receive-\(archive.component.kind)-\(archive.component.name)", on: archive.tier, settings, logger: logger
        ) { [state] lease in
          state.withLock { $0.lease = lease }
          while true { try await Task.sleep(for: .seconds(3600)) }
        }
      } catch let error as DRError {
        let hadIt = state.withLock { state in
          state.lease = nil
          return state.token != nil
        }
        switch error.code {
        case .leaseHeld: state.withLock { $0.failure = hadIt ? lost : held }
        case .leaseLost:
          logger.warning(
            "the receiver's lease ran out; nothing is stored until it is held again (--lease-seconds, where the tier is slow)",
            metadata: ["component": "\(archive.component)"])
        case let code where passing.contains(code):
          if case .full = failures.next(error) {
            logger.error("the receiver's lease cannot be taken; trying again", metadata: ["error": "\(error)"])
          }
          try? await Task.sleep(for: .milliseconds(500))
        default: state.withLock { $0.failure = error }
        }
      } catch {
        // Cancelled.
      }
    }
    state.withLock { $0.hasEnded = true }
  }

  /// A tier that is away must not keep it from ending.
  private func end(_ keeping: Task<Void, Never>) async {
    keeping.cancel()
    await Task { [state] in
      let deadline = ContinuousClock.now + .seconds(5)
      while !state.withLock({ $0.hasEnded }), ContinuousClock.now < deadline {
        try? await Task.sleep(for: .milliseconds(5))
      }
    }.value
  }

  private var held: DRError {
    DRError(
      .leaseHeld, "another receiver stores the changes of \(archive.component) in this repository: nothing was stored",
      advice:
        "end one of them; one that was killed makes room by itself within \(settings.life * 1.25). Another server needs a component of its own",
      component: archive.component)
  }

  private var lost: DRError {
    DRError(
      .leaseLost,
      "another receiver has taken the changes of \(archive.component) over: this one stores nothing more",
      advice:
        "find out why it stood still for longer than \(settings.life), and who began the other one; one of them is enough",
      component: archive.component)
  }
}
