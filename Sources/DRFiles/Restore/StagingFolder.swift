import DRCore
import DRStorage
import Foundation

/// A folder in which a restore works: on the file system of its destination, so that a rename suffices to put a file in place.
///
/// It holds a file that is locked for as long as the process lives. What a process that was killed left behind is known by
/// its lock being free, and the next restore to the same place removes it.
///
/// Blocking. `@unchecked Sendable`: one task uses it at a time, on its `BlockingExecutor`.
final class StagingFolder: @unchecked Sendable {
  /// Where it lies.
  let parent: Descriptor
  /// Where the tree is written.
  let tree: Descriptor
  private let folder: Descriptor
  private let name: [UInt8]
  private let lock: Descriptor
  private static let lockName = [UInt8]("lock".utf8)
  static let treeName = [UInt8]("tree".utf8)

  init(in parent: Descriptor) throws(SystemError) {
    self.parent = parent
    StagingFolder.removeAbandoned(in: parent)
    name = [UInt8]((FileName.stagingPrefix + RandomName.hex().prefix(16)).utf8)
    guard try parent.makeFolder(name) else { throw SystemError("mkdirat", EEXIST) }
    folder = try parent.folder(name)
    let lock = try folder.create(StagingFolder.lockName)
    try systemCall("flock") { flock(lock.number, LOCK_EX | LOCK_NB) }
    self.lock = lock
    try folder.makeFolder(StagingFolder.treeName)
    tree = try folder.folder(StagingFolder.treeName)
  }

  /// Whether two names of different case are one file here.
  func foldsCase() throws(SystemError) -> Bool {
    try folder.statusIfPresent([UInt8]("LOCK".utf8)) != nil
  }

  /// Puts the whole tree in place under a name of the parent, which is free or an empty folder.
  func place(as name: [UInt8]) throws(SystemError) {
    try folder.rename(StagingFolder.treeName, in: parent, to: name)
    try parent.syncFolder()
  }

  func remove() { try? parent.removeTree(name) }

  private static func removeAbandoned(in parent: Descriptor) {
    for name in (try? parent.names()) ?? [] where name.starts(with: FileName.stagingPrefix.utf8) {
      guard let folder = try? parent.folder(name), let status = try? folder.fileStatus() else { continue }
      guard let lock = try? folder.file(lockName) else {
        // Perhaps it was made this moment.
        if Date().timeIntervalSince1970 - Double(status.modified.seconds) > 600 { try? parent.removeTree(name) }
        continue
      }
      guard flock(lock.number, LOCK_EX | LOCK_NB) == 0 else { continue }
      try? parent.removeTree(name)
    }
  }
}
