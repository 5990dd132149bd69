/// What the header of a tar member says.
package struct TarMember: Hashable, Sendable {
  package enum Kind: Hashable, Sendable {
    case file
    case folder
    case symbolicLink
    /// Another name of a file that came before: ``TarMember/rawLinkTarget`` is that file's path.
    case hardLink
  }

  /// A named value that a file system keeps beside a file.
  package struct Attribute: Hashable, Sendable {
    package var name: String
    package var value: [UInt8]

    package init(name: String, value: [UInt8]) {
      self.name = name
      self.value = value
    }
  }

  package var kind: Kind
  /// The path, checked: relative, with no empty, `.` or `..` component and no NUL. A leading `./` and the trailing
  /// slash of a folder are gone; it is empty for the folder that the archive was made of. Bytes that are not UTF-8 are
  /// replaced here; ``rawPath`` has them.
  package var path: String
  /// The bytes of ``path`` as the archive has them.
  package var rawPath: [UInt8]
  /// The length of the content in the archive in bytes; 0 for folders and links.
  package var size: Int64
  /// Permission bits.
  package var mode: UInt32
  /// Seconds since 1970.
  package var modified: Int64
  /// What comes to ``modified``, 0 to 999,999,999.
  package var nanoseconds: Int32 = 0
  package var userID: UInt32 = 0
  package var groupID: UInt32 = 0
  /// Empty: not known.
  package var userName = ""
  package var groupName = ""
  /// Where a link points, as written: that of a hard link is checked as a path is, that of a symbolic link is not.
  package var rawLinkTarget: [UInt8]?
  /// Extended attributes, by name.
  package var attributes: [Attribute] = []
  /// A POSIX access control list, as text.
  package var accessACL: String?
  /// What new files in a folder inherit.
  package var defaultACL: String?
  /// Where a sparse file holds data, in ascending order; the content in the archive is only that.
  package var sparse: TarSparseMap?

  package init(kind: Kind, rawPath: [UInt8], size: Int64 = 0, mode: UInt32, modified: Int64) {
    self.kind = kind
    self.rawPath = rawPath
    path = String(decoding: rawPath, as: UTF8.self)
    self.size = size
    self.mode = mode
    self.modified = modified
  }

  /// ``rawLinkTarget`` as text.
  package var linkTarget: String? { rawLinkTarget.map { String(decoding: $0, as: UTF8.self) } }

  /// The length of the file.
  package var length: Int64 { sparse?.length ?? size }
}
