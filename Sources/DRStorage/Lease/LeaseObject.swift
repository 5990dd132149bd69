import DRCore
import NIOCore

import class Foundation.JSONDecoder
import class Foundation.JSONEncoder

/// What a lease looks like in a tier.
struct LeaseObject: Codable, Hashable {
  var owner: String
  /// Rises with each renewal, so that no two are alike.
  var count: Int
  /// In seconds.
  var life: Double
  var released: Bool

  init(owner: String, count: Int, life: Duration, released: Bool) {
    self.owner = owner
    self.count = count
    self.life = life / .seconds(1)
    self.released = released
  }

  func encoded() throws -> ByteBuffer {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    return ByteBuffer(bytes: try encoder.encode(self))
  }

  /// Nil for one that is absent, or cannot be read.
  static func read(_ name: String, _ token: Int64, in tier: any StorageTier) async throws -> LeaseObject? {
    do {
      let buffer = try await tier.read(key(name, token), limit: 1 << 16)
      return try? JSONDecoder().decode(LeaseObject.self, from: .init(buffer.readableBytesView))
    } catch let error as DRError where error.code == .objectNotFound || error.code == .malformedData {
      return nil
    }
  }

  static func prefix(_ name: String) -> String { "leases/\(name)/" }

  static func key(_ name: String, _ token: Int64) throws -> ObjectKey {
    let digits = String(token)
    return try ObjectKey(prefix(name) + String(repeating: "0", count: max(0, 16 - digits.count)) + digits + ".json")
  }

  /// In order.
  static func tokens(of name: String, in tier: any StorageTier) async throws -> [Int64] {
    try await tier.listAll(prefix: prefix(name)).compactMap { object in
      guard let file = object.key.rest(after: prefix(name)), file.hasSuffix(".json"),
        let token = Int64(file.dropLast(5)), try key(name, token) == object.key
      else { return nil }
      return token
    }
  }
}
