public import DRStorage
import Foundation

extension Catalog {
  /// Says on standard error which manifests cannot be read: the newest backup may be one of them, and an older one is taken.
  public func warnOfUnreadable() {
    for broken in unreadable {
      FileHandle.standardError.write(Data("warning: \(broken.id) cannot be read: \(broken.error)\n".utf8))
    }
  }
}
