import DRStorage
import Foundation

/// Folders below a root, reached one component at a time, without following a symbolic link: no path leads outside, not
/// even one that is changed while it is walked.
///
/// Keeps the way to the folder that was asked for last: in the order of a walk the next one is near.
final class FolderChain {
  let root: Descriptor
  private var names: [[UInt8]] = []
  private var folders: [Descriptor] = []

  init(root: Descriptor) { self.root = root }

  /// The folder of a path, or nil if it is not there (or something else is).
  ///
  /// - Parameter created: Called for a folder that was made because it was missing; nil: none is made.
  func folder(
    _ path: [UInt8], creating created: (([UInt8], Descriptor) throws -> Void)? = nil
  ) throws -> Descriptor? {
    let wanted = FileName.components(path)
    var common = 0
    while common < min(names.count, wanted.count), names[common] == wanted[common] { common += 1 }
    names.removeLast(names.count - common)
    folders.removeLast(folders.count - common)
    for name in wanted[common...] {
      let parent = folders.last ?? root
      let isNew = created != nil ? try parent.makeFolder(name) : false
      let next =
        created != nil
        ? try parent.folder(name)
        : try allowing(ENOENT, ENOTDIR, ELOOP) { () throws(SystemError) in try parent.folder(name) }
      guard let next else { return nil }
      names.append(name)
      folders.append(next)
      if isNew { try created?(names.reduce([], FileName.join), next) }
    }
    return folders.last ?? root
  }

  /// Forgets the way: names may mean other folders now.
  func forget() {
    names = []
    folders = []
  }
}
