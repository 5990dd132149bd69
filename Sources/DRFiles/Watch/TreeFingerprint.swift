import DRCore
import DRStorage
import Foundation
import NIOCore

/// Tells whether anything of a tree has changed, without reading a file: from names, kinds, lengths, modes, owners, times and inodes.
struct TreeFingerprint {
  private let settings: TreeCursor.Settings
  private var digest = StreamDigest()
  private var rootDevice: UInt64 = 0

  /// Walks the tree as a capture would. Blocking.
  ///
  /// - Parameter onFolder: Told each folder before its names are read.
  /// - Throws: ``SystemError``, also where the root is not there.
  static func take(
    _ source: FileTreeSource, onFolder: (Descriptor, _ path: [UInt8]) throws -> Void
  ) throws -> String {
    var walk = TreeFingerprint(settings: try TreeCursor.Settings(source, encrypts: true))
    for text in [source.root] + source.included + ["\u{0}"] + source.excluded { walk.add([UInt8](text.utf8)) }
    let root = try Descriptor.root(source.root)
    walk.rootDevice = try root.fileStatus().identity.device
    try walk.enter(root, [], isIncluded: walk.settings.selection.isEverything, onFolder)
    return walk.digest.hex()
  }

  private mutating func enter(
    _ folder: Descriptor, _ path: [UInt8], isIncluded: Bool, _ onFolder: (Descriptor, [UInt8]) throws -> Void
  ) throws {
    try onFolder(folder, path)
    let names = try folder.names()
    if names.contains([UInt8](LocalTier.marker.utf8)) { return }
    for name in names where !(path.isEmpty && FileName.isOwn(name)) {
      let path = FileName.join(path, name)
      let components = FileName.components(path)
      if settings.selection.excludes(components) { continue }
      let isMeant = isIncluded || !settings.selection.matching(components).isEmpty
      guard let status = try folder.statusIfPresent(name) else { continue }
      if isMeant, status.kind != .folder || isIncluded { add(path, status) }
      guard status.kind == .folder else { continue }
      let inner = try allowing(ENOENT, ENOTDIR, ELOOP, EACCES) { () throws(SystemError) in try folder.folder(name) }
      guard let inner else { continue }
      if !settings.crossesFileSystems, try inner.fileStatus().identity.device != rootDevice { continue }
      try enter(inner, path, isIncluded: isMeant, onFolder)
    }
  }

  private mutating func add(_ path: [UInt8], _ status: FileStatus) {
    add(path)
    let isFolder = status.kind == .folder
    let numbers: [Int64] = [
      Int64(status.mode), Int64(status.userID), Int64(status.groupID), Int64(bitPattern: status.identity.inode),
      // A folder's own say what its names say already.
      isFolder ? 0 : status.size, isFolder ? 0 : status.modified.seconds,
      isFolder ? 0 : Int64(status.modified.nanoseconds), isFolder ? 0 : status.changed.seconds,
      isFolder ? 0 : Int64(status.changed.nanoseconds),
    ]
    add([UInt8]("\(status.kind) \(numbers)".utf8))
  }

  private mutating func add(_ bytes: [UInt8]) {
    var piece = ByteBuffer(integer: UInt32(bytes.count))
    piece.writeBytes(bytes)
    digest.update(piece)
  }
}
