import NIOCore

/// The messages that were published and not confirmed yet, in the order of their tags.
package struct PublishWindow: Sendable {
  struct InFlight: Sendable {
    var tag: UInt64
    var number: UInt64
    var body: ByteBuffer
    var isConfirmed = false
  }

  /// Why a message is not in its queue.
  package struct Failure: Sendable, Hashable {
    package var number: UInt64?
    package var reason: String
  }

  /// Unconfirmed messages at most.
  package let limit: Int
  /// Bytes of unconfirmed bodies after which nothing goes out before some are confirmed.
  static let byteLimit = 32 << 20
  private(set) var bytes = 0
  private var ring: [InFlight] = []
  private var head = 0
  /// Every message of a lower number is in its queue.
  package private(set) var confirmed: UInt64
  /// What was last told to who keeps a journal.
  var noted: UInt64
  package var failures: [Failure] = []
  /// Properties of another user that were left out.
  package var usersLeftOut = 0
  package var published = 0

  package init(limit: Int, from number: UInt64 = 0) {
    self.limit = max(1, limit)
    confirmed = number
    noted = number
  }

  package var count: Int { ring.count - head }
  var isFull: Bool { count >= limit || bytes >= Self.byteLimit }
  var isHalfEmpty: Bool { count <= limit / 2 && bytes <= Self.byteLimit / 2 }

  /// Says that no message of a lower number is still to come.
  mutating func pass(to number: UInt64) { if count == 0 { confirmed = max(confirmed, number) } }

  mutating func add(tag: UInt64, _ message: ArchivedMessage) {
    ring.append(InFlight(tag: tag, number: message.number, body: message.body))
    bytes += message.body.readableBytes
    published += 1
  }

  mutating func confirm(_ tag: UInt64, multiple: Bool, isRefused: Bool) {
    guard head < ring.count else { return }
    let last = Int(clamping: tag) - Int(clamping: ring[head].tag) + head
    guard last >= head, last < ring.count else { return }
    for index in (multiple ? head : last)...last where !ring[index].isConfirmed {
      ring[index].isConfirmed = !isRefused
      if isRefused {
        failures.append(Failure(number: ring[index].number, reason: "the broker refused it (basic.nack)"))
      }
    }
    while head < ring.count, ring[head].isConfirmed {
      confirmed = ring[head].number + 1
      bytes -= ring[head].body.readableBytes
      head += 1
    }
    if head > 1024, head * 2 > ring.count {
      ring.removeFirst(head)
      head = 0
    }
  }

  /// The broker gives back whole messages, not their tags: which one it was is found by its content.
  mutating func giveBack(_ body: ByteBuffer, _ reason: String) {
    let found = ring[head...].first { $0.body == body }
    failures.append(Failure(number: found?.number, reason: reason))
  }
}
