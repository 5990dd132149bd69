public import DRCore
public import Logging

extension Lease {
  /// How long it is held and waited for.
  public struct Settings: Sendable {
    /// How long it outlives its last renewal. It is renewed three times in that time.
    public var life: Duration
    /// How long to wait for another owner before giving up.
    public var patience: Duration

    public init(life: Duration = .seconds(60), patience: Duration = .seconds(120)) {
      self.life = life
      self.patience = patience
    }
  }

  /// Runs a body as the only one that holds a lease, and releases it afterwards, whatever happens.
  ///
  /// When the lease is lost, the body is cancelled; when the body is cancelled, renewing ends and the lease is released.
  ///
  /// - Parameter name: What is to be done by one alone: lower-case letters, digits, underscores and hyphens, a letter first.
  /// - Throws: ``DRCore/DRError``: `leaseHeld` if another owner keeps it for longer than the patience; `leaseLost`;
  ///   `unsupported` for a tier without conditional put; what the tier or the body throws.
  public static func with<R: Sendable, C: Clock<Duration>>(
    _ name: String, on tier: any StorageTier, _ settings: Settings = Settings(), clock: C = ContinuousClock(),
    logger: Logger, _ body: @escaping @Sendable (Lease) async throws -> R
  ) async throws -> R where C.Instant: Sendable {
    guard tier.capabilities.contains(.conditionalPut) else {
      throw DRError(
        .unsupported, "\(tier.name) cannot decide between two writers, so it cannot hold a lease",
        advice: "use a tier with conditional put; or, if no other process ever writes there, say so (soleWriter)",
        object: name)
    }
    guard name.wholeMatch(of: /[a-z][a-z0-9_-]{0,127}/) != nil else {
      throw DRError(.invalidConfiguration, "'\(name.prefix(64))' cannot be the name of a lease")
    }
    let ticker = Ticker(clock)
    let lease = try await acquire(name, tier, settings, ticker, logger)
    logger.info("lease taken", metadata: ["lease": "\(name)", "lease.token": "\(lease.token)"])
    let renewals = MutableBox(1)
    func release() async {
      // Not cut short by a cancellation of the work.
      await Task { await lease.release(renewals.value + 1) }.value
    }
    do {
      let result = try await withThrowingTaskGroup(of: R?.self) { group in
        group.addTask { try await body(lease) }
        group.addTask {
          while !Task.isCancelled {
            try await ticker.sleep(settings.life / 3)
            renewals.withLock { $0 += 1 }
            do {
              try await lease.renew(renewals.value)
            } catch let error as DRError where error.code != .leaseLost {
              logger.warning("a lease was not renewed", metadata: ["lease": "\(name)", "error": "\(error)"])
              // The work goes on for as long as the lease lasts.
              try lease.check()
            }
          }
          return nil
        }
        defer { group.cancelAll() }
        while let next = try await group.next() {
          if let next { return next }
        }
        throw CancellationError()
      }
      await release()
      return result
    } catch {
      await release()
      throw error
    }
  }

  /// A contender waits somewhat longer than the owner counts, lest their clocks run at different speeds.
  private static func overdue(_ life: Double) -> Duration { .seconds(life * 1.25) }

  private static func acquire(
    _ name: String, _ tier: any StorageTier, _ settings: Settings, _ ticker: Ticker, _ logger: Logger
  ) async throws -> Lease {
    let owner = RandomName.hex()
    let giveUp = ticker.elapsed() + settings.patience
    func waitOrGiveUp() async throws {
      guard ticker.elapsed() < giveUp else {
        throw DRError(
          .leaseHeld, "another process holds the lease '\(name)'",
          advice: "wait for it to end; the lease of one that died runs out by itself", object: name)
      }
      try await ticker.sleep(min(.seconds(1), settings.life / 10))
    }
    /// Since when the highest token looks as it does.
    var watched: (token: Int64, object: LeaseObject?, since: Duration)?
    while true {
      try Task.checkCancellation()
      let highest = try await LeaseObject.tokens(of: name, in: tier).last
      if let highest {
        let seen = ticker.elapsed()
        let object = try await LeaseObject.read(name, highest, in: tier)
        if watched?.token != highest || watched?.object != object { watched = (highest, object, seen) }
        let quiet = ticker.elapsed() - (watched?.since ?? seen)
        let isFree = object?.released ?? false
        guard isFree || quiet >= overdue(object?.life ?? settings.life / .seconds(1)) else {
          try await waitOrGiveUp()
          continue
        }
      }
      let token = (highest ?? 0) + 1
      let start = ticker.elapsed()
      let claim = LeaseObject(owner: owner, count: 0, life: settings.life, released: false)
      do {
        _ = try await tier.put(
          LeaseObject.key(name, token), ByteStream(claim.encoded()), PutOptions(onlyIfAbsent: true))
      } catch let error as DRError where error.code == .objectExists {
        // Another was faster, or this is ours, put by an attempt whose answer was lost.
        guard try await LeaseObject.read(name, token, in: tier) == claim else {
          try await waitOrGiveUp()
          continue
        }
      }
      // Somebody may have come and gone while this process was stopped: only the highest token counts.
      guard try await LeaseObject.tokens(of: name, in: tier).last == token else { continue }
      let lease = Lease(
        name: name, token: token, owner: owner, life: settings.life, tier: tier, ticker: ticker, from: start)
      // The owner before may have shown life between the last look and the claim: then it learns of the claim at its next
      // renewal, and until then the lease is still its own.
      if let highest, let before = watched?.object, !before.released {
        guard try await LeaseObject.read(name, highest, in: tier) == before else {
          logger.notice("the owner of a lease came back", metadata: ["lease": "\(name)"])
          try await ticker.sleep(overdue(before.life))
          try await lease.renew(0)
          return lease
        }
      }
      if let highest {
        for old in try await LeaseObject.tokens(of: name, in: tier) where old <= highest {
          try? await tier.delete(LeaseObject.key(name, old))
        }
      }
      return lease
    }
  }
}
