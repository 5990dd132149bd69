import DRCore

/// The lines of one chain of an audit trail, as a tier lists them.
///
///     audit/2026/11/db1.00000042.json                     a line that the host db1 wrote on this tier
///     audit/2026/11/db1~3f2a91c07be4d518.00000042.json    one that it wrote on another tier, from which it was copied
///
/// What a chain is known by, wherever it is, is the digest of its first line: so the trails of two tiers, on both of which a host has written, lie
/// beside one another on either, and a copy of a copy has the name of the first.
struct AuditChain: Sendable {
  struct Line: Sendable {
    var sequence: Int
    /// Below `audit/`: `2026/11/`.
    var month: String
    var key: ObjectKey
    var size: Int64
  }

  /// As keys have it: `db1`, or `db1~3f2a91c07be4d518` for a copy.
  let name: String
  /// By their numbers; of twins, which were written at the turn of a month, the earlier month first.
  var lines: [Line]

  var writer: String { AuditChain.writer(of: name) }
  /// Of a copy: by what the chain is known.
  var originID: String? { name.firstIndex(of: "~").map { String(name[name.index(after: $0)...]) } }

  /// Whose lines a chain of this name holds.
  static func writer(of name: String) -> String { String(name.prefix { $0 != "~" }) }

  /// By what a chain with this first line is known.
  static func id(ofFirstLine digest: String) -> String { String(digest.prefix(16)) }

  /// The name of a chain and the number that a key holds.
  static func parts(of key: ObjectKey) -> (name: String, sequence: Int)? {
    let parts = key.lastComponent.split(separator: ".")
    guard parts.count == 3, parts[2] == "json", let sequence = Int(parts[1]), sequence > 0 else { return nil }
    return (String(parts[0]), sequence)
  }

  /// - Throws: What the tier throws.
  static func all(on tier: any StorageTier) async throws -> [AuditChain] {
    var chains: [String: [Line]] = [:]
    for object in try await tier.listAll(prefix: AuditTrail.prefix) {
      guard let (name, sequence) = parts(of: object.key), let rest = object.key.rest(after: AuditTrail.prefix),
        let slash = rest.lastIndex(of: "/")
      else { continue }
      chains[name, default: []].append(
        Line(sequence: sequence, month: String(rest[...slash]), key: object.key, size: object.size))
    }
    return chains.sorted { $0.key < $1.key }.map { name, lines in
      AuditChain(name: name, lines: lines.sorted { ($0.sequence, $0.month) < ($1.sequence, $1.month) })
    }
  }

  /// By what it is known; nil if its first line is not there.
  ///
  /// - Throws: What the tier throws.
  func id(on tier: any StorageTier) async throws -> String? {
    if let originID { return originID }
    guard let first = lines.first, first.sequence == 1 else { return nil }
    return AuditChain.id(ofFirstLine: StreamDigest.hex(try await tier.read(first.key, limit: 1 << 20)))
  }

  /// Where a line of it lies in a chain of another name.
  static func key(of line: Line, in name: String) throws -> ObjectKey {
    let number = line.key.lastComponent.split(separator: ".")[1]
    return try ObjectKey("\(AuditTrail.prefix)\(line.month)\(name).\(number).json")
  }
}
