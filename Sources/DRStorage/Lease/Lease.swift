import DRCore
import NIOCore

/// The right to do something alone, for as long as it is renewed.
///
/// A lease is an object `leases/<name>/<token>.json`. Who finds none puts token 1, only if it is absent; who finds one that
/// was released, or that has not changed for longer than its life, puts the next token. Of two, one wins. The highest token
/// is the lease.
///
/// No two clocks are compared: a contender watches an object for its whole life, on its own clock, and the owner counts
/// from before it began to write. Nor does an owner have a name that another host, a copied machine or a process of the same
/// number could share: it is a random number.
///
/// | a crash or a stop after | leaves | then |
/// | --- | --- | --- |
/// | the next token was put | a lease that nobody renews | it runs out; the token after it is taken |
/// | the work, before the release | the same | the same |
/// | the release, before old tokens are removed | tokens that nobody looks at | the next owner removes them |
///
/// A process that is stopped while it holds a lease and goes on after another has taken it over finds that out by its own
/// clock, at its next ``check()``, and by the higher token, at its next ``confirm()``. A write that had left it already
/// cannot be called back: what a lease guards must be harmless when it comes late. So ``Repository/prune(_:lease:logger:)``
/// writes each irrevocable decision with a conditional put of its own.
public final class Lease: Sendable {
  /// Rises by one from owner to owner: the fencing token that each guarded write carries.
  public let token: Int64
  /// Random; no host name.
  public let owner: String
  public let name: String
  let life: Duration
  private let tier: any StorageTier
  private let ticker: Ticker
  /// Until when it holds, on the ticker; nil: lost.
  private let end: MutableBox<Duration?>

  init(
    name: String, token: Int64, owner: String, life: Duration, tier: any StorageTier, ticker: Ticker,
    from start: Duration
  ) {
    self.name = name
    self.token = token
    self.owner = owner
    self.life = life
    self.tier = tier
    self.ticker = ticker
    end = MutableBox(start + life)
  }

  /// Makes sure, without asking the tier, that it has not run out: before each guarded write.
  ///
  /// - Throws: ``DRCore/DRError`` with `leaseLost`.
  public func check() throws {
    guard let end = end.value, ticker.elapsed() < end else { throw lost }
  }

  /// Makes sure, by asking the tier, that nobody has taken it over: before a write that cannot be taken back.
  ///
  /// - Throws: ``DRCore/DRError``: `leaseLost`; as the tier's `list`.
  public func confirm() async throws {
    try check()
    let highest = try await LeaseObject.tokens(of: name, in: tier).last
    guard highest == token else {
      lose()
      throw lost
    }
    try check()
  }

  private var lost: DRError {
    DRError(
      .leaseLost, "the lease '\(name)' (token \(token)) has ended or was taken over",
      advice: "nothing is wrong with what was done: run it again", object: name)
  }

  private func lose() { end.withLock { $0 = nil } }

  /// Writes a sign of life, and sees that there is no later token.
  func renew(_ count: Int) async throws {
    let start = ticker.elapsed()
    try await write(LeaseObject(owner: owner, count: count, life: life, released: false))
    try await confirm()
    end.withLock { if $0 != nil { $0 = start + life } }
  }

  /// Lets the next one in without a wait. Nothing can be written under it any more.
  func release(_ count: Int) async {
    lose()
    try? await write(LeaseObject(owner: owner, count: count, life: life, released: true))
  }

  private func write(_ object: LeaseObject) async throws {
    _ = try await tier.put(LeaseObject.key(name, token), ByteStream(object.encoded()), PutOptions())
  }
}
