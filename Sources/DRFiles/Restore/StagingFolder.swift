import DRCore
import DRStorage
import Foundation

/// A folder in which a restore works: on the file system of its destination, so that a rename suffices to put a file in place.
///
/// It is locked for as long as the process lives. What a process that was killed left behind is known by its lock being
/// free, and the next restore to the same place removes it.
///
/// Blocking. `@unchecked Sendable`: one task uses it at a time, on its `BlockingExecutor`.
final class StagingFolder: @unchecked Sendable {
  /// Where it lies.
  let parent: Descriptor
  /// Where the tree is written.
  let tree: Descriptor
  /// Holds the lock.
  private let folder: Descriptor
  private let name: [UInt8]
  private static let treeName = [UInt8]("tree".utf8)

  init(in parent: Descriptor) throws(SystemError) {
    self.parent = parent
    StagingFolder.removeAbandoned(in: parent)
    (name, folder) = try StagingFolder.make(in: parent)
    try folder.makeFolder(StagingFolder.treeName)
    tree = try folder.folder(StagingFolder.treeName)
  }

  /// A folder of a new name, locked. Another restore may take it for abandoned before it is: then it is not used.
  private static func make(in parent: Descriptor) throws(SystemError) -> ([UInt8], Descriptor) {
    for _ in 0..<100 {
      let name = [UInt8]((FileName.stagingPrefix + RandomName.hex().prefix(16)).utf8)
      guard try parent.makeFolder(name),
        let folder = try allowing(ENOENT, call: { () throws(SystemError) in try parent.folder(name) })
      else { continue }
      guard flock(folder.number, LOCK_EX | LOCK_NB) == 0 else { continue }
      let identity = try folder.fileStatus().identity
      if try parent.statusIfPresent(name)?.identity == identity { return (name, folder) }
    }
    throw SystemError("mkdirat", EEXIST)
  }

  /// Whether two names of different case are one file here.
  func foldsCase() throws(SystemError) -> Bool {
    try folder.statusIfPresent([UInt8]("TREE".utf8)) != nil
  }

  /// Puts the whole tree in place under a name of the parent, which is free or an empty folder.
  func place(as name: [UInt8]) throws(SystemError) {
    try folder.rename(StagingFolder.treeName, in: parent, to: name)
    try parent.syncFolder()
  }

  func remove() { try? parent.removeTree(name) }

  private static func removeAbandoned(in parent: Descriptor) {
    for name in (try? parent.names()) ?? [] where name.starts(with: FileName.stagingPrefix.utf8) {
      guard let folder = try? parent.folder(name), flock(folder.number, LOCK_EX | LOCK_NB) == 0 else { continue }
      try? parent.removeTree(name)
    }
  }
}
