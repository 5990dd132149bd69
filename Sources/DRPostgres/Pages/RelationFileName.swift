/// The name of a file that holds pages of a relation, taken from its path in a data folder or in a tar of one.
///
/// Known forms: `base/<database>/<file>`, `global/<file>`, `PG_<version>_<catalog>/<database>/<file>` (as in the tar of
/// a tablespace) and the last below `pg_tblspc/<oid>/` (as in a `backup_manifest`); where `<file>` is a number, perhaps
/// a fork, perhaps a segment: `16384`, `16384_fsm`, `16384.2`, `16384_vm.1`. All else is no such name: `pg_control`,
/// `pg_filenode.map`, `PG_VERSION`, `pg_internal.init`, temporary relations (`t3_16384`) and `pgsql_tmp`.
package struct RelationFileName: Hashable, Sendable {
  package enum Fork: String, Hashable, Sendable {
    case main = ""
    case freeSpaceMap = "fsm"
    case visibilityMap = "vm"
    case initial = "init"
  }

  /// Blocks in a segment file: 1 GiB of pages of 8,192 bytes, as servers are built.
  package static let blocksPerSegment: UInt32 = 131_072

  /// The database's OID; 0 for shared relations.
  package let database: UInt32
  /// The number that names the relation's files.
  package let fileNode: UInt32
  package let fork: Fork
  /// Which file of the relation's this is, from 0.
  package let segment: UInt32

  /// The number of this file's first block within the relation's fork, for ``PageChecksum``.
  package var firstBlock: UInt32 { segment * RelationFileName.blocksPerSegment }

  /// Finds the name in a path, or nil if the path is not that of a relation's file.
  package init?(path: String) {
    var parts = path.split(separator: "/", omittingEmptySubsequences: false)[...]
    if parts.first == "pg_tblspc" {
      guard parts.count == 5, RelationFileName.number(parts[1]) != nil, parts[2].hasPrefix("PG_") else { return nil }
      parts = parts.dropFirst(2)
    }
    let file: Substring
    switch (parts.first, parts.count) {
    case ("global", 2):
      database = 0
    case (let top?, 3) where top == "base" || top.hasPrefix("PG_"):
      guard let number = RelationFileName.number(parts[parts.startIndex + 1]) else { return nil }
      database = number
    default:
      return nil
    }
    file = parts[parts.endIndex - 1]

    let pieces = file.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    let stem = pieces[0].split(separator: "_", maxSplits: 1, omittingEmptySubsequences: false)
    guard let node = RelationFileName.number(stem[0]) else { return nil }
    fileNode = node
    if stem.count == 2 {
      guard let named = Fork(rawValue: String(stem[1])), named != .main else { return nil }
      fork = named
    } else {
      fork = .main
    }
    if pieces.count == 2 {
      // The last block number is 0xFFFF_FFFE, so there are at most 32,768 segments.
      guard let number = RelationFileName.number(pieces[1]), number < 32_768 else { return nil }
      segment = number
    } else {
      segment = 0
    }
  }

  /// A number from 1, in decimal without leading zeroes.
  private static func number(_ text: Substring) -> UInt32? {
    guard let first = text.utf8.first, first != UInt8(ascii: "0"),
      text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    else { return nil }
    return UInt32(text)
  }
}
