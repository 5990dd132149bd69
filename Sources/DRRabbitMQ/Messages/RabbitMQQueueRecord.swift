package import DRCore
import Foundation
import NIOCore

/// What a manifest says of a queue.
package struct RabbitMQQueueRecord: Codable, Hashable, Sendable {
  package var vhost: String
  package var name: String
  package var type: String
  package var durable: Bool
  package var artifact: String
  package var summary: MessageArchive.Summary
  package var readyBefore: Int64
  package var readyAfter: Int64
  /// Whether the first messages were the same after the dump: `same`, `differs`; nil: not looked at.
  package var orderAfter: String?
  /// Messages that consumers held, and that are not in the artifact.
  package var unacknowledged: Int64
  package var consumers: Int64
  /// Of a stream: where the artifact begins.
  package var fromOffset: Int64?
  /// Of a stream: by what the next dump knows it again.
  package var tail: StreamTail?
  /// More of its messages, from the beginning on, also of backups before this one.
  package var samples: [StreamTail]?
  /// When its dump began, and when it had all, in milliseconds since 1970; nil: by an earlier version.
  package var began: Int64?
  package var ended: Int64?
  /// How the queue was not the same after its dump, though nobody was seen who changed it; nil: it was the same.
  package var harm: String?

  /// Of a stream: whether what came before is in an earlier backup.
  package var isPart: Bool { (fromOffset ?? 0) > 0 }

  package var title: String { "\(vhost)/\(name)" }

  /// Of a stream: the offset at which the next dump goes on.
  var nextOffset: Int64? { summary.lastOffset.map { $0 + 1 } ?? fromOffset }

  func json() throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(self))
  }

  package static func all(of manifest: BackupManifest) -> [RabbitMQQueueRecord] {
    (manifest.properties["queues"]?.array ?? []).compactMap { value in
      try? JSONDecoder().decode(Self.self, from: JSONEncoder().encode(value))
    }
  }

  /// A name for people, made unique by a digest: a queue's name may hold anything.
  static func artifactName(vhost: String, queue: String) -> String {
    let safe = "\(vhost)-\(queue)".utf8.prefix(80).map { byte -> Character in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
        Character(UnicodeScalar(byte))
      default: "_"
      }
    }
    let digest = StreamDigest.hex(ByteBuffer(string: "\(vhost)\u{0}\(queue)")).prefix(10)
    return "messages-\(String(safe))-\(digest).drmq"
  }
}
