/// What kind of value follows a key: the byte before it.
///
/// Numbers from Redis's `rdb.h`, up to RDB version 12.
package enum RDBType: UInt8, Sendable, Hashable, CaseIterable {
  case string = 0
  case list = 1
  case set = 2
  case sortedSet = 3
  case hash = 4
  case sortedSet2 = 5
  case module2 = 7
  case hashZipmap = 9
  case listZiplist = 10
  case setIntset = 11
  case sortedSetZiplist = 12
  case hashZiplist = 13
  case listQuicklist = 14
  case stream = 15
  case hashListpack = 16
  case sortedSetListpack = 17
  case listQuicklist2 = 18
  case stream2 = 19
  case setListpack = 20
  case stream3 = 21
  case hashMetadataPreview = 22
  case hashListpackExpiryPreview = 23
  case hashMetadata = 24
  case hashListpackExpiry = 25

  /// The type as the server's `TYPE` command names it; `module` for a module's own.
  package var family: String {
    switch self {
    case .string: "string"
    case .list, .listZiplist, .listQuicklist, .listQuicklist2: "list"
    case .set, .setIntset, .setListpack: "set"
    case .sortedSet, .sortedSet2, .sortedSetZiplist, .sortedSetListpack: "zset"
    case .hash, .hashZipmap, .hashZiplist, .hashListpack, .hashMetadataPreview, .hashListpackExpiryPreview,
      .hashMetadata, .hashListpackExpiry:
      "hash"
    case .stream, .stream2, .stream3: "stream"
    case .module2: "module"
    }
  }

  /// What a string that is a whole collection must look like inside.
  var packing: RDBPacking {
    switch self {
    case .hashZipmap: .zipmap
    case .listZiplist, .listQuicklist: .ziplist(multipleOf: 1)
    case .sortedSetZiplist, .hashZiplist: .ziplist(multipleOf: 2)
    case .setIntset: .intset
    case .hashListpack, .sortedSetListpack: .listpack(multipleOf: 2)
    case .setListpack: .listpack(multipleOf: 1)
    case .hashListpackExpiry, .hashListpackExpiryPreview: .listpack(multipleOf: 3)
    default: .plain
    }
  }
}

/// How a collection is packed into one string.
enum RDBPacking: Sendable, Hashable {
  case plain
  case ziplist(multipleOf: Int)
  case listpack(multipleOf: Int)
  case intset
  case zipmap
}

/// The bytes that stand where a type could stand, and are none.
enum RDBOpcode {
  static let slotInfo: UInt8 = 244
  static let function2: UInt8 = 245
  static let functionPreview: UInt8 = 246
  static let moduleAux: UInt8 = 247
  static let idle: UInt8 = 248
  static let frequency: UInt8 = 249
  static let aux: UInt8 = 250
  static let resizeDatabase: UInt8 = 251
  static let expiryMilliseconds: UInt8 = 252
  static let expirySeconds: UInt8 = 253
  static let selectDatabase: UInt8 = 254
  static let end: UInt8 = 255
}
