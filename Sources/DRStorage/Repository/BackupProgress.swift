/// How far a backup has come.
public struct BackupProgress: Hashable, Sendable {
  public var backupID: String
  /// Bytes taken from the source so far, of all artifacts.
  public var rawBytes: Int64
  /// Bytes handed to the tier so far.
  public var storedBytes: Int64
  /// What the source expects of all artifacts that it has begun; nil if it does not know of each.
  public var expectedRawBytes: Int64?
}
