import DRCore
import DRStorage
import Foundation

/// Files of several names of which one, anywhere in a tree, is a secret's: under the others they hold the same.
enum LinkedSecrets {
  /// Walks the tree, and looks at the names alone, also of files that are not asked for. Blocking.
  ///
  /// - Throws: ``SystemError``. What may not be read is passed over.
  static func find(
    in root: Descriptor, _ settings: TreeCursor.Settings
  ) throws(SystemError) -> Set<FileStatus.Identity> {
    var found: Set<FileStatus.Identity> = []
    try look(root, [], try root.fileStatus().identity.device, settings, &found)
    return found
  }

  private static func look(
    _ folder: Descriptor, _ path: [UInt8], _ device: UInt64, _ settings: TreeCursor.Settings,
    _ found: inout Set<FileStatus.Identity>
  ) throws(SystemError) {
    for name in try folder.names() {
      let path = FileName.join(path, name)
      guard let status = try allowing(EACCES, ENOENT, call: { () throws(SystemError) in try folder.fileStatus(name) })
      else { continue }
      switch status.kind {
      case .file:
        if status.links > 1, settings.judge.isSecret(path) { found.insert(status.identity) }
      case .folder:
        if status.identity == settings.passedOver?.folder { continue }
        if status.identity.device != device, !settings.crossesFileSystems { continue }
        if settings.selection.excludes(FileName.components(path)) { continue }
        let inner = try allowing(EACCES, ENOENT, ENOTDIR, ELOOP) { () throws(SystemError) in try folder.folder(name) }
        if let inner { try look(inner, path, device, settings, &found) }
      default: continue
      }
    }
  }
}
