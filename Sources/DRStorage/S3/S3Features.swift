import DRCore

/// What an S3 server was seen to do. Servers differ, and some take a condition and ignore it: only what was tried counts.
public struct S3Features: Hashable, Sendable, Codable {
  /// `If-None-Match: *` on a put in one request.
  public var conditionalPut: Bool
  /// The same on the completion of a put in parts. Without it, the check is made right before the completion.
  public var conditionalCompletion: Bool
  /// `If-Match` on a put.
  public var compareAndSwap: Bool
  /// The server wants the entity tag of that without its quotation marks.
  public var bareTags: Bool
  /// What the server compares the bytes with that it received.
  public var checksum: S3Configuration.Checksum
  public var storageClasses: Bool
  /// Archive classes are refused to readers until they are restored.
  public var archive: Bool
  /// The bucket has Object Lock.
  public var objectLock: Bool
  /// The bucket keeps versions.
  public var versions: Bool

  public init(
    conditionalPut: Bool = false, conditionalCompletion: Bool = false, compareAndSwap: Bool = false,
    bareTags: Bool = false,
    checksum: S3Configuration.Checksum = .md5, storageClasses: Bool = false, archive: Bool = false,
    objectLock: Bool = false, versions: Bool = false
  ) {
    self.conditionalPut = conditionalPut
    self.conditionalCompletion = conditionalCompletion
    self.compareAndSwap = compareAndSwap
    self.bareTags = bareTags
    self.checksum = checksum
    self.storageClasses = storageClasses
    self.archive = archive
    self.objectLock = objectLock
    self.versions = versions
  }

  /// Amazon's own; what depends on the bucket is asked for.
  static let aws = S3Features(
    conditionalPut: true, conditionalCompletion: true, compareAndSwap: true, checksum: .sha256, storageClasses: true,
    archive: true)

  var capabilities: TierCapabilities {
    var all: TierCapabilities = []
    if conditionalPut { all.insert(.conditionalPut) }
    if compareAndSwap { all.insert(.compareAndSwap) }
    if objectLock { all.insert(.objectLock) }
    if storageClasses { all.insert(.storageClasses) }
    if versions { all.insert(.versions) }
    if archive { all.insert(.archive) }
    return all
  }
}
