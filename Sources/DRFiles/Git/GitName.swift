/// Names that git takes in no tree, whatever its configuration (`verify_path` of git).
enum GitName {
  /// - Returns: Nil for a name that it takes.
  static func whyRefused(_ name: [UInt8], _ kind: FileStatus.Kind) -> String? {
    let text = String(decoding: name, as: UTF8.self).lowercased()
    if text == ".git" { return "git takes nothing of such a name" }
    if text == ".gitmodules", kind == .symbolicLink { return "git takes no symbolic link of such a name" }
    return nil
  }
}
