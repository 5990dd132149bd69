import DRCore
package import NIOCore

/// Reads the entries of an RDB file one by one, pushed in pieces cut anywhere. Pure.
///
/// Holds one value at a time, of so many bytes at most: a larger one is stepped over, and its entry says so. Values that are
/// not selected are never held. Give a piece with ``append(_:)``, then take entries with ``next()`` until it returns nil.
package struct RDBEntryReader: Sendable {
  package enum Item: Sendable {
    case entry(RDBEntry)
    /// A function library: its string as the file has it; nil if it is longer than the limit.
    case function(ByteBuffer?)
  }

  private var input: RDBInput
  private let selects: @Sendable (RDBKey) -> Bool
  /// The key that is being read, if it is selected.
  private var current: RDBKey?
  private let valueLimit: Int

  /// - Parameters:
  ///   - object: Names the file in errors.
  ///   - valueLimit: The most bytes of a key and of its value to hold.
  ///   - selects: Which keys to give.
  package init(
    object: String, valueLimit: Int = 32 << 20, selects: @escaping @Sendable (RDBKey) -> Bool = { _ in true }
  ) {
    self.selects = selects
    self.valueLimit = valueLimit
    input = RDBInput(
      object: object,
      options: RDBParser.Options(givesEntries: true, keyLimit: valueLimit, valueLimit: valueLimit))
  }

  /// The version of the file's format, once its start was read.
  package var version: Int { input.parser.version }

  /// Gives the next piece. All entries of the pieces before must have been taken.
  package mutating func append(_ bytes: ByteBuffer) { input.append(bytes) }

  /// The next entry that is selected, or nil if it needs more bytes.
  ///
  /// - Throws: ``DRError``: as ``RDBScanner/scan(_:)``.
  package mutating func next() throws -> Item? {
    while let event = try input.next() {
      switch event {
      case .key:
        let key = RDBKey(
          database: input.parser.database, key: try input.key(), type: input.parser.type, expiry: input.parser.expiry)
        guard selects(key) else { continue }
        current = key
        input.keepValue(input.parser.keyHeader.length <= UInt64(valueLimit))
      case .value:
        guard let key = current else { continue }
        current = nil
        let size = input.parser.valueEnd - input.parser.valueStart
        return .entry(
          RDBEntry(
            database: key.database, key: key.key, type: key.type, expiry: key.expiry, idle: input.parser.idle,
            frequency: input.parser.frequency, value: size <= Int64(valueLimit) ? input.value() : nil,
            valueBytes: size, offset: input.parser.entryStart))
      case .function:
        let size = input.parser.valueEnd - input.parser.valueStart
        return .function(size <= Int64(valueLimit) ? input.value() : nil)
      case .end:
        continue
      }
    }
    return nil
  }

  /// Says that there are no more bytes. Returns whether the file has a checksum, which then is right.
  ///
  /// - Throws: ``DRError``: as ``RDBScanner/finish()``.
  package mutating func finish() throws -> Bool { try input.finish() }
}
