import Foundation

extension LocalTier {
  /// The root of the tier that a path is, or lies in; nil if it lies in none. Symbolic links are followed, and the path need
  /// not be there. Blocking.
  package static func enclosing(_ path: String) -> String? {
    var folder = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
    while folder.count > 1 {
      if access("\(folder)/\(marker)", F_OK) == 0 { return folder }
      folder = (folder as NSString).deletingLastPathComponent
    }
    return nil
  }
}
