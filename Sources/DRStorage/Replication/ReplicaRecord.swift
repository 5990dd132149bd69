import DRCore
import NIOCore

import struct Foundation.Date
import class Foundation.JSONDecoder
import class Foundation.JSONEncoder

/// Written beside a copied backup once every byte of it was seen on its tier.
struct ReplicaRecord: Hashable, Sendable, Codable {
  /// How the copy was verified.
  enum Method: String, Hashable, Sendable, Codable {
    /// Each object was read back from the tier, and its SHA-256 is the manifest's.
    case readBack = "read back"
    /// The SHA-256 of what was sent is the manifest's, and the tier has an object of that size: for archives, which cannot
    /// be read at once.
    case sent
  }

  var backup: String
  /// The name of the tier that it was copied from.
  var source: String
  var method: Method
  var verified: Date

  init(backup: String, source: String, method: Method, verified: Date) {
    self.backup = backup
    self.source = source
    self.method = method
    self.verified = verified
  }

  private enum Field: String, CodingKey { case backup, source, method, verified }

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Field.self)
    backup = try container.decode(String.self, forKey: .backup)
    source = try container.decode(String.self, forKey: .source)
    method = try container.decode(Method.self, forKey: .method)
    let text = try container.decode(String.self, forKey: .verified)
    guard let moment = Timestamp.parse(text) else {
      throw DecodingError.dataCorruptedError(forKey: .verified, in: container, debugDescription: "no moment")
    }
    verified = moment
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Field.self)
    try container.encode(backup, forKey: .backup)
    try container.encode(source, forKey: .source)
    try container.encode(method, forKey: .method)
    try container.encode(Timestamp.format(verified), forKey: .verified)
  }

  func encoded() throws -> ByteBuffer {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return ByteBuffer(bytes: try encoder.encode(self))
  }

  /// Nil for one that is absent, or cannot be read.
  static func read(_ key: ObjectKey, in tier: any StorageTier) async throws -> ReplicaRecord? {
    do {
      let buffer = try await tier.read(key, limit: 1 << 16)
      return try? JSONDecoder().decode(ReplicaRecord.self, from: .init(buffer.readableBytesView))
    } catch let error as DRError where error.code == .objectNotFound || error.code == .malformedData {
      return nil
    }
  }
}
