public import DRCore
public import DRStorage
import Foundation
package import NIOCore

/// The change log of taps: `rabbitmq/messages/<cluster>/<queue>/<queue>-<number>-<sha256>.zst[.age]`.
///
/// A segment is an archive of messages (``MessageArchive``), whose header says which queue it is of. Numbers go up by
/// one, so that a missing segment is seen.
public struct RabbitMQTapLog: Sendable {
  package let store: ChangeLogStore
  private let encoding: Encoding
  private let decoding: Decoding

  /// - Parameter cluster: What manifests call the system's identifier.
  /// - Throws: ``DRError`` with `invalidKey`.
  public init(
    tier: any StorageTier, component: Component, layout: RepositoryLayout = .byKind, cluster: String,
    encoding: Encoding = Encoding(), decoding: Decoding = Decoding()
  ) throws {
    // A cluster's name may hold what a folder's name may not.
    let folder = String(
      cluster.unicodeScalars.map {
        $0.isASCII && ($0.properties.isAlphabetic || "0123456789-_@.".unicodeScalars.contains($0)) ? Character($0) : "_"
      })
    store = try ChangeLogStore(
      tier: tier, component: component, layout: layout, log: "messages", systemIdentifier: folder,
      group: { String($0.prefix(16)) })
    self.encoding = encoding
    self.decoding = decoding
  }

  /// 16 hexadecimal digits: a queue's name may hold anything.
  package static func key(vhost: String, queue: String) -> String {
    String(StreamDigest.hex(ByteBuffer(string: "\(vhost)/\(queue)")).prefix(16))
  }

  private static func name(_ key: String, _ number: Int) -> String {
    let digits = "\(number)"
    return "\(key)-" + String(repeating: "0", count: 12 - digits.count) + digits
  }

  /// The numbers of a queue's segments.
  package func numbers(_ key: String) async throws -> [Int] {
    try await store.segments(startingWith: key).filter { !$0.isPartial }.compactMap { Int($0.name.suffix(12)) }
  }

  package func put(_ key: String, _ number: Int, _ archive: ByteBuffer) async throws {
    _ = try await store.put(Self.name(key, number), archive, encoding: encoding)
  }

  package func get(_ key: String, _ number: Int) async throws -> ByteBuffer {
    try await store.get(Self.name(key, number), decoding: decoding)
  }

  /// What a tap that is started again must know. Of no use to who has no access to the messages, and so not encrypted: a
  /// host that has public keys only can go on.
  package struct State: Codable, Hashable, Sendable {
    /// Segments up to this number were acknowledged, and the broker has seen it: they do not come again.
    package var acknowledged: Int
    /// The segment that is stored next, if it is.
    package var pending: Pending?

    package struct Pending: Codable, Hashable, Sendable {
      package var number: Int
      package var messages: Int
      /// As ``RepetitionDigest`` makes it.
      package var sha256: String

      package init(number: Int, messages: Int, sha256: String) {
        self.number = number
        self.messages = messages
        self.sha256 = sha256
      }
    }

    package init(acknowledged: Int, pending: Pending? = nil) {
      self.acknowledged = acknowledged
      self.pending = pending
    }
  }

  package func note(_ state: State, of key: String) async throws {
    var plain = encoding
    plain.recipients = []
    try await store.putPartial(
      Self.name(key, 0), ByteBuffer(bytes: try JSONEncoder().encode(state)), encoding: plain)
  }

  /// Nil: nothing was ever stored.
  func state(of key: String) async throws -> State? {
    let stored: ByteBuffer
    do {
      stored = try await store.getPartial(Self.name(key, 0), decoding: decoding)
    } catch let error as DRError where error.code == .objectNotFound {
      return nil
    }
    do {
      return try JSONDecoder().decode(State.self, from: Data(stored.readableBytesView))
    } catch {
      throw DRError(.malformedData, "the tap's note of its state is damaged", object: Self.name(key, 0), cause: error)
    }
  }

  /// How many segments are stored of a queue.
  ///
  /// - Throws: As the tier's `list`.
  public func segments(vhost: String, queue: String) async throws -> Int {
    try await numbers(Self.key(vhost: vhost, queue: queue)).count
  }

  /// Every message of a queue in the order in which it came, with the last moment (milliseconds since 1970) at which it
  /// can have come: when the next segment was begun. Of the last segment that is not known.
  ///
  /// - Throws: ``DRError``: `changeLogGap` if a segment is missing; what the store says.
  package func read(
    vhost: String, queue: String, _ body: (ArchivedMessage, _ until: Int64) async throws -> Void
  ) async throws {
    let key = Self.key(vhost: vhost, queue: queue)
    let numbers = try await numbers(key)
    var held: (number: Int, archive: ByteBuffer)?
    for (index, number) in numbers.enumerated() {
      if index > 0, number != numbers[index - 1] + 1 {
        throw DRError(
          .changeLogGap, "segment \(numbers[index - 1] + 1) of the tap is missing",
          advice: "take it from another tier; without it, messages are missing",
          object: Self.name(key, numbers[index - 1] + 1))
      }
      let archive = try await get(key, number)
      if let held {
        let begun = try await Self.begun(archive, object: Self.name(key, number))
        try await Self.messages(held.archive, object: Self.name(key, held.number)) { try await body($0, begun) }
      }
      held = (number, archive)
    }
    if let held {
      try await Self.messages(held.archive, object: Self.name(key, held.number)) { try await body($0, .max) }
    }
  }

  private static func messages(
    _ archive: ByteBuffer, object: String, _ body: (ArchivedMessage) async throws -> Void
  ) async throws {
    try await MessageArchiveReader.read(ByteStream(archive), object: object) { event in
      if case .message(let message) = event { try await body(message) }
    }
  }

  private static func begun(_ archive: ByteBuffer, object: String) async throws -> Int64 {
    var reader = MessageArchiveReader(object: object)
    reader.feed(archive)
    guard case .header(let header) = try reader.event(), let date = Timestamp.parse(header.captured) else {
      return .max
    }
    return Int64((date.timeIntervalSince1970 * 1000).rounded(.up))
  }
}
