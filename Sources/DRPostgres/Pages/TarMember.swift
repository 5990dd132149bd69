/// What the header of a tar member says.
package struct TarMember: Hashable, Sendable {
  /// The path, checked: relative, with no empty, `.` or `..` component and no NUL. A leading `./` and the trailing
  /// slash of a folder are gone. Bytes that are not UTF-8 are replaced here; ``rawPath`` has them.
  package var path: String
  /// The bytes of ``path`` as the archive has them.
  package var rawPath: [UInt8]
  /// The length of the content in bytes; 0 for folders and links.
  package var size: Int64
  /// Permission bits.
  package var mode: UInt32
  /// Seconds since 1970.
  package var modified: Int64
  /// Where a symbolic link points: as written, not checked; it is for the caller to decide what may be pointed at.
  package var linkTarget: String?

  package init(
    path: String, rawPath: [UInt8], size: Int64, mode: UInt32, modified: Int64, linkTarget: String? = nil
  ) {
    self.path = path
    self.rawPath = rawPath
    self.size = size
    self.mode = mode
    self.modified = modified
    self.linkTarget = linkTarget
  }
}
