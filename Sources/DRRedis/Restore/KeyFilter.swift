import DRCore
package import NIOCore

/// A ``RedisKeySelection``, ready to be applied to each key.
package struct KeyFilter: Sendable {
  private let patterns: [KeyPattern]
  private let types: Set<UInt8>?
  private let databases: Set<Int>
  private let prefix: (from: [UInt8], to: [UInt8])?
  private let moves: [Int: Int]

  /// - Throws: ``DRError`` with `invalidConfiguration` for a type that is none.
  package init(_ selection: RedisKeySelection) throws {
    patterns = selection.patterns.map { KeyPattern($0) }
    databases = selection.databases
    moves = selection.movedDatabases
    prefix = selection.renamedPrefix.map { (Array($0.from.utf8), Array($0.to.utf8)) }
    let families = Set(RDBType.allCases.map(\.family))
    if let unknown = selection.types.subtracting(families).sorted().first {
      throw DRError(
        .invalidConfiguration, "'\(unknown.prefix(40))' is no type of Redis",
        advice: "use \(families.sorted().joined(separator: ", "))")
    }
    types =
      selection.types.isEmpty
      ? nil : Set(RDBType.allCases.filter { selection.types.contains($0.family) }.map(\.rawValue))
  }

  package func selects(_ key: RDBKey) -> Bool {
    if !databases.isEmpty, !databases.contains(key.database) { return false }
    if let types, !types.contains(key.type.rawValue) { return false }
    if patterns.isEmpty { return true }
    return key.key.withUnsafeReadableBytes { name in patterns.contains { $0.matches(name) } }
  }

  /// Where a key of a database goes.
  package func database(_ number: Int) -> Int { moves[number] ?? number }

  /// The name that a key gets.
  package func name(_ key: ByteBuffer) -> ByteBuffer {
    guard let prefix, key.readableBytesView.starts(with: prefix.from) else { return key }
    var name = ByteBuffer(bytes: prefix.to)
    name.writeBytes(key.readableBytesView.dropFirst(prefix.from.count))
    return name
  }
}
