import DRCore
import NIOCore

/// Where a dump ends and what a tap captured goes on: which of the tap's messages are in the dump.
///
/// By the time at which they came to the tap, most are clear: what came before the dump of the queue began is in it or was
/// consumed, what came after it ended is not in it. What came in between, or so little before or after that the way through the
/// broker or the clocks of two hosts may have made it so, or may have waited in a tap that nobody read, is compared with the dump's
/// messages.
///
/// A queue gives its messages in the order in which they came: so as many of the last of the dump are compared as there are messages
/// at the seam, and not older ones of the same content. With a message-id, what is in the dump comes once. Without one, equal
/// messages are counted: of those that the dump has, the tap says how many came before the seam; only the others can be those that
/// came at it. What came before the tap began, or before what is left of its log, may be equal to anything: it accounts for
/// none. The rest is restored, for it may rather come twice than not at all.
struct TapSeam {
  /// By what a message is known again.
  ///
  /// With a message-id: that and the body, for an application may give an id to more than one message. Without: the body, the
  /// exchange, the routing key and the properties, without what the broker adds; of the default exchange no properties, for the
  /// firehose tells of them in other types. One that was restored before the dump has another exchange: it never came to the tap.
  struct Identity: Hashable {
    private let digest: Int
    let hasID: Bool

    init(_ message: ArchivedMessage) throws {
      var hasher = Hasher()
      var properties = try message.rawProperties()
      let id = properties.texts[.messageID]
      hasID = id != nil
      if let id {
        hasher.combine(id)
      } else {
        hasher.combine(message.exchange.exact)
        message.routingKey.withUnsafeReadableBytes { hasher.combine(bytes: $0) }
        if !message.exchange.isEmpty {
          properties.sortHeaders(without: ["x-delivery-count", "x-stream-offset"])
          var encoded = ByteBuffer()
          properties.encode(into: &encoded)
          encoded.withUnsafeReadableBytes { hasher.combine(bytes: $0) }
        }
      }
      hasher.combine(message.body.readableBytes)
      message.body.withUnsafeReadableBytes { hasher.combine(bytes: $0) }
      digest = hasher.finalize()
    }
  }

  enum Side {
    /// In the dump, or consumed before it.
    case before
    /// To be compared with the dump.
    case at
    case after
  }

  /// Milliseconds since 1970: what a message may have been on its way, and clocks may differ.
  private let first: Int64
  private let last: Int64
  private let ended: Int64
  /// Of the dump's messages, those before this one came long before; 0: the queue does not keep their order.
  private var tail: Int64 = 0
  /// Of the dump's messages, this one and those after it came while the tap had copies that are known.
  private var known: Int64 = 0

  private struct Count {
    /// Messages of the tap at the seam.
    var tap: Int64 = 0
    /// Messages of the tap before it.
    var before: Int64 = 0
    /// Messages in the tail of the dump.
    var dump: Int64 = 0
    /// Of these, those that the tap must have.
    var known: Int64 = 0
    /// Messages of the tap at the seam that were decided on.
    var decided: Int64 = 0
  }

  private var counts: [Identity: Count] = [:]
  private var total: Int64 = 0
  /// Of the tap before the seam.
  private var totalBefore: Int64 = 0
  /// Whether that is all since the tap began.
  private var isWhole = false
  /// What the queue held when the tap began.
  private var depth: Int64?

  /// - Parameters:
  ///   - began: When the dump of the queue began, in milliseconds since 1970.
  ///   - ended: When it had all.
  init(began: Int64, ended: Int64, margin: Duration) {
    let margin = Int64(margin / .milliseconds(1))
    first = began - margin
    last = ended + margin
    self.ended = ended
  }

  /// What lies before it certainly came before the dump.
  var start: Int64 { first }

  func side(_ arrival: ClosedRange<Int64>) -> Side {
    arrival.upperBound < first ? .before : arrival.lowerBound > last ? .after : .at
  }

  /// Whether a message may have come before the dump ended: if it is not in it, it may have been consumed.
  func mayPrecede(_ arrival: ClosedRange<Int64>) -> Bool { arrival.lowerBound <= ended }

  // MARK: Looking ahead

  mutating func expect(_ message: ArchivedMessage) throws {
    counts[try Identity(message), default: Count()].tap += 1
    total += 1
  }

  /// Whether what came before the seam must be known too.
  var needsHistory: Bool { counts.keys.contains { !$0.hasID } }

  /// Call for each message of the tap that came before the seam.
  mutating func notePrevious(_ message: ArchivedMessage) throws {
    totalBefore += 1
    let identity = try Identity(message)
    if counts[identity] != nil { counts[identity]?.before += 1 }
  }

  /// Call after these.
  ///
  /// - Parameters:
  ///   - isWhole: Whether they were all since the tap began.
  ///   - depth: How many messages the queue held then; nil: it is not known.
  mutating func endPrevious(isWhole: Bool, depth: Int64?) {
    self.isWhole = isWhole
    self.depth = depth
  }

  var isEmpty: Bool { counts.isEmpty }

  /// On what the decisions rest, of what a tap may add to or lose: on the same they are the same.
  var basis: String {
    "\(total) of the tap after \(totalBefore)\(isWhole ? "" : " or more") and \(depth.map { "\($0)" } ?? "an unknown number")"
  }

  /// - Parameter keepsOrder: Whether the queue gives its messages in the order in which they came.
  mutating func begin(dumpOf messages: Int64, keepsOrder: Bool) {
    let atBeginning = isWhole ? depth : nil
    if keepsOrder {
      tail = max(0, messages - total)
      // What was there when the tap began comes first. And behind a message that came before what is known of the tap, all of
      // that would be.
      known = max(0, min(atBeginning ?? .max, messages - totalBefore))
    } else {
      (tail, known) = (0, atBeginning == 0 ? 0 : .max)
    }
  }

  /// Call for each message of the dump.
  mutating func note(_ message: ArchivedMessage) throws {
    guard !counts.isEmpty else { return }
    let identity = try Identity(message)
    let number = Int64(clamping: message.number)
    guard identity.hasID || number >= tail, counts[identity] != nil else { return }
    counts[identity]?.dump += 1
    if number >= known { counts[identity]?.known += 1 }
  }

  // MARK: Deciding

  enum Verdict {
    /// It is in the dump.
    case inDump
    case new
    /// An equal one is in the dump.
    case mayBeInDump
  }

  /// Call once for each message at the seam, in their order.
  mutating func verdict(_ message: ArchivedMessage) throws -> Verdict {
    let identity = try Identity(message)
    guard var count = counts[identity], count.dump > 0 else { return .new }
    if identity.hasID { return .inDump }
    defer { counts[identity] = count }
    count.decided += 1
    if count.decided <= count.known - count.before { return .inDump }
    return count.decided <= count.dump ? .mayBeInDump : .new
  }
}
