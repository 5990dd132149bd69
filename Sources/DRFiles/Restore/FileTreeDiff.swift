/// What a restore would change, or has changed, in a folder.
public struct FileTreeDiff: Hashable, Sendable {
  public enum Change: String, Hashable, Sendable {
    /// It is not there.
    case added
    /// Its content, or where a link points, is another.
    case content
    /// Only its mode, owner, time or extended attributes are others.
    case attributes
    /// A folder is there in place of a file, or the reverse. A restore in place refuses that.
    case conflict
  }

  public struct Entry: Hashable, Sendable, CustomStringConvertible {
    /// Below the folder; bytes that are not UTF-8 are replaced.
    public var path: String
    public var change: Change
    /// What differs, in words.
    public var detail: String

    public var description: String { "\(change.rawValue) \(path)" + (detail.isEmpty ? "" : ": \(detail)") }
  }

  /// In the order of their paths.
  public internal(set) var entries: [Entry] = []
  /// How many files, folders and links are there as they should be.
  public internal(set) var same = 0

  /// Whether a restore has nothing to do.
  public var isEmpty: Bool { entries.isEmpty }
}
