import DRStorage
import Foundation

/// What is known of a file without reading it.
struct FileStatus: Hashable, Sendable {
  enum Kind: Hashable, Sendable {
    case file
    case folder
    case symbolicLink
    case socket
    case pipe
    case device

    var text: String {
      switch self {
      case .file: "a file"
      case .folder: "a folder"
      case .symbolicLink: "a symbolic link"
      case .socket: "a socket"
      case .pipe: "a named pipe"
      case .device: "a device"
      }
    }
  }

  struct Moment: Hashable, Sendable {
    var seconds: Int64
    var nanoseconds: Int32
  }

  /// Tells a file from every other.
  struct Identity: Hashable, Sendable {
    var device: UInt64
    var inode: UInt64
  }

  var kind: Kind
  var identity: Identity
  /// Permission bits, with set-user-ID, set-group-ID and the sticky bit.
  var mode: UInt32
  var userID: UInt32
  var groupID: UInt32
  var size: Int64
  var modified: Moment
  var changed: Moment
  var links: UInt64
  /// Whether less is on the disk than the size says.
  var isSparse: Bool

  init(_ raw: stat) {
    kind =
      switch raw.st_mode & S_IFMT {
      case S_IFREG: .file
      case S_IFDIR: .folder
      case S_IFLNK: .symbolicLink
      case S_IFSOCK: .socket
      case S_IFIFO: .pipe
      default: .device
      }
    identity = Identity(device: UInt64(truncatingIfNeeded: raw.st_dev), inode: UInt64(truncatingIfNeeded: raw.st_ino))
    mode = UInt32(raw.st_mode) & 0o7777
    userID = raw.st_uid
    groupID = raw.st_gid
    size = Int64(raw.st_size)
    #if canImport(Darwin)
      let (modified, changed) = (raw.st_mtimespec, raw.st_ctimespec)
    #else
      let (modified, changed) = (raw.st_mtim, raw.st_ctim)
    #endif
    self.modified = Moment(seconds: Int64(modified.tv_sec), nanoseconds: Int32(modified.tv_nsec))
    self.changed = Moment(seconds: Int64(changed.tv_sec), nanoseconds: Int32(changed.tv_nsec))
    links = UInt64(raw.st_nlink)
    isSparse = Int64(raw.st_blocks) * 512 < size
  }

  /// Whether a file is what it was: the same file, of the same length, neither written nor given other attributes.
  func isSame(as other: FileStatus) -> Bool {
    identity == other.identity && size == other.size && modified == other.modified && changed == other.changed
  }
}
