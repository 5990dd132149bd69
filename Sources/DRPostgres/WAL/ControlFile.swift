import DRCore

/// The start of PostgreSQL's `global/pg_control` (`src/include/catalog/pg_control.h`).
package enum ControlFile {
  /// The system identifier that a data folder's control file holds, little-endian.
  ///
  /// - Throws: ``DRError``: `truncatedData`, `malformedData`.
  package static func systemIdentifier(_ bytes: UnsafeRawBufferPointer, object: String) throws -> String {
    guard bytes.count >= 12 else {
      throw DRError(.truncatedData, "a control file of \(bytes.count) bytes", object: object)
    }
    let identifier = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
    let version = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
    // PG_CONTROL_VERSION is 1300 from PostgreSQL 13 on, 1700 in 17.
    guard identifier != 0, (1300..<3000).contains(version) else {
      throw DRError(
        .malformedData, "this is no control file of PostgreSQL 13 or later on a little-endian machine", object: object)
    }
    return "\(identifier)"
  }
}
