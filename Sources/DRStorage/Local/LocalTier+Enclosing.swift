import Foundation

extension LocalTier {
  /// The root of the tier that a path is, or lies in; nil if it lies in none. Symbolic links are followed, also to what is not
  /// there yet. Blocking.
  package static func enclosing(_ path: String) -> String? {
    var folder = URL(fileURLWithPath: path).path
    // What is not there is no link, and holds no marker.
    while folder.count > 1, access(folder, F_OK) != 0 { folder = (folder as NSString).deletingLastPathComponent }
    if let resolved = realpath(folder, nil) {
      folder = String(cString: resolved)
      free(resolved)
    }
    while folder.count > 1 {
      if access("\(folder)/\(marker)", F_OK) == 0 { return folder }
      folder = (folder as NSString).deletingLastPathComponent
    }
    return nil
  }
}
