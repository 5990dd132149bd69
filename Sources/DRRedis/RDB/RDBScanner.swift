import DRCore
package import NIOCore

/// Reads an RDB file, pushed in pieces cut anywhere, checks it and counts what it holds. Pure; memory is bounded whatever
/// the file says.
///
/// A file that passes ends where it says, and its CRC64 is right or absent (``RDBSummary/checksum``).
package struct RDBScanner: Sendable {
  package struct Options: Sendable {
    /// How many of the largest keys to name.
    package var largestKeys: Int
    /// Look into every value too: compressed strings decompress, packed collections are sound. The server does not, and
    /// ends when it meets one that is not.
    package var checksValues: Bool

    package init(largestKeys: Int = 10, checksValues: Bool = false) {
      self.largestKeys = largestKeys
      self.checksValues = checksValues
    }
  }

  private var input: RDBInput
  private let options: Options
  private var databases: [Int: (keys: Int, expiries: Int)] = [:]
  /// The database that is being counted, so that not every key looks into the table.
  private var current: (number: Int, keys: Int, expiries: Int) = (0, 0, 0)
  private var types = [Int](repeating: 0, count: 256)
  private var largest: [RDBSummary.Key] = []
  /// A key has to take more than this to be among the largest.
  private var threshold: Int64 = 0

  /// - Parameter object: Names the file in errors.
  package init(object: String, options: Options = Options()) {
    self.options = options
    input = RDBInput(object: object, options: RDBParser.Options(checksValues: options.checksValues))
    threshold = options.largestKeys > 0 ? 0 : .max
  }

  /// Bytes given so far.
  package var bytes: Int64 { input.total }

  /// Reads the next piece.
  ///
  /// - Throws: ``DRError``: `malformedData` or `unsupportedVersion`, naming the object, what was being read and the offset.
  package mutating func scan(_ bytes: ByteBuffer) throws {
    input.append(bytes)
    while let event = try input.next() {
      if case .value = event { try count() }
    }
  }

  /// Says that there are no more bytes.
  ///
  /// - Throws: ``DRError``: `truncatedData` if the file ends early, `corruptData` if its checksum is wrong.
  package mutating func finish() throws -> RDBSummary {
    let isVerified = try input.finish()
    try settle()
    var families: [String: Int] = [:]
    var encodings: [Int: Int] = [:]
    for type in RDBType.allCases where types[Int(type.rawValue)] > 0 {
      families[type.family, default: 0] += types[Int(type.rawValue)]
      encodings[Int(type.rawValue)] = types[Int(type.rawValue)]
    }
    let parser = input.parser
    return RDBSummary(
      version: parser.version, bytes: input.total, checksum: isVerified ? .verified : .absent, aux: parser.aux,
      keysPerDatabase: databases.mapValues(\.keys),
      expiriesPerDatabase: databases.mapValues(\.expiries).filter { $0.value > 0 },
      statedKeysPerDatabase: parser.stated.mapValues(\.keys),
      statedExpiriesPerDatabase: parser.stated.mapValues(\.expiries), keysByType: families,
      keysByEncoding: encodings, largestKeys: largest, functions: parser.functions,
      moduleNames: parser.moduleNames.sorted(), uncheckedValues: parser.unchecked)
  }

  private mutating func count() throws {
    if input.parser.database != current.number {
      try settle()
      current = (input.parser.database, 0, 0)
    }
    current.keys &+= 1
    if input.parser.expiry != nil { current.expiries &+= 1 }
    types[Int(input.parser.type.rawValue)] &+= 1
    let size = input.parser.valueEnd - input.parser.entryStart
    if size > threshold { rank(size) }
  }

  /// Adds what was counted of a database to the table.
  private mutating func settle() throws {
    guard current.keys > 0 else { return }
    databases[current.number, default: (0, 0)].keys += current.keys
    databases[current.number, default: (0, 0)].expiries += current.expiries
    current.keys = 0
    current.expiries = 0
    guard databases.count <= RDBParser.mostDatabases else {
      throw DRError(
        .malformedData, "the RDB file has keys in more than \(RDBParser.mostDatabases) databases",
        object: input.parser.object)
    }
  }

  private mutating func rank(_ size: Int64) {
    let parser = input.parser
    let name = input.withKey { RDBString.text($0, parser.keyHeader, limit: 256) }
    let key = RDBSummary.Key(name: name, database: parser.database, type: parser.type.family, bytes: size)
    largest.insert(key, at: largest.firstIndex { $0.bytes < size } ?? largest.count)
    if largest.count > options.largestKeys { largest.removeLast() }
    if largest.count == options.largestKeys { threshold = largest.last?.bytes ?? 0 }
  }
}
