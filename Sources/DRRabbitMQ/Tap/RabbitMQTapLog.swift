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

  /// Says that the broker has seen the acknowledgement of a segment: it will not come again.
  func noteAcknowledged(_ key: String, _ number: Int) async throws {
    try await store.putPartial(Self.name(key, 0), ByteBuffer(string: "\(number)\n"), encoding: encoding)
  }

  func acknowledged(_ key: String) async throws -> Int {
    do {
      let text = String(buffer: try await store.getPartial(Self.name(key, 0), decoding: decoding))
      return Int(text.dropLast()) ?? 0
    } catch let error as DRError where error.code == .objectNotFound {
      return 0
    }
  }

  /// How many segments are stored of a queue.
  ///
  /// - Throws: As the tier's `list`.
  public func segments(vhost: String, queue: String) async throws -> Int {
    try await numbers(Self.key(vhost: vhost, queue: queue)).count
  }

  /// Every message of a queue in the order in which it came, with the moment (milliseconds since 1970) before which its
  /// segment was begun.
  ///
  /// - Throws: ``DRError``: `changeLogGap` if a segment is missing; what the store says.
  package func read(
    vhost: String, queue: String, _ body: (ArchivedMessage, _ stored: Int64) async throws -> Void
  ) async throws {
    let key = Self.key(vhost: vhost, queue: queue)
    var last: Int?
    var begun: Int64 = 0
    for number in try await numbers(key) {
      if let last, number != last + 1 {
        throw DRError(
          .changeLogGap, "segment \(last + 1) of the tap is missing",
          advice: "take it from another tier; without it, messages are missing", object: Self.name(key, last + 1))
      }
      last = number
      try await MessageArchiveReader.read(ByteStream(try await get(key, number)), object: Self.name(key, number)) {
        event in
        switch event {
        case .header(let header):
          begun = Timestamp.parse(header.captured).map { Int64($0.timeIntervalSince1970 * 1000) } ?? 0
        case .message(let message): try await body(message, begun)
        case .end: break
        }
      }
    }
  }
}
