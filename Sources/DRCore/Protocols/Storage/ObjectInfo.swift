public import struct Foundation.Date

/// What a tier knows about an object.
public struct ObjectInfo: Hashable, Sendable {
  public var key: ObjectKey
  /// In bytes.
  public var size: Int64
  /// On the tier's clock.
  public var modified: Date
  /// Differs from that of every other object that had this key. Opaque: no digest, whatever it looks like.
  public var entityTag: String?
  /// Nil: the tier has none.
  public var storageClass: StorageClass?
  /// Nil: readable, as always. Only ``StorageTier/head(_:)`` tells for certain.
  public var archive: ArchiveState?
  /// What keeps it from being removed. Only ``StorageTier/head(_:)`` tells for certain.
  public var lock: RetentionLock?
  public var legalHold: Bool

  /// The moment until which it cannot be removed, if there is one.
  public var lockedUntil: Date? { lock?.until }

  public init(
    key: ObjectKey, size: Int64, modified: Date, entityTag: String? = nil, storageClass: StorageClass? = nil,
    archive: ArchiveState? = nil, lock: RetentionLock? = nil, legalHold: Bool = false
  ) {
    self.key = key
    self.size = size
    self.modified = modified
    self.entityTag = entityTag
    self.storageClass = storageClass
    self.archive = archive
    self.lock = lock
    self.legalHold = legalHold
  }
}

/// Where an archived object is on its way to being readable.
public enum ArchiveState: Hashable, Sendable {
  /// Not readable; nobody has asked for it.
  case archived
  /// Not readable yet; asked for.
  case thawing
  /// Readable until a moment, where the tier says it; it is archived still, this is a copy.
  case thawed(until: Date?)

  public var isReadable: Bool {
    if case .thawed = self { true } else { false }
  }
}

/// How fast, and how dear, a thaw is. In hours: Glacier Flexible minutes / 3-5 / 5-12; Deep Archive no / 12 / 48.
public enum ThawSpeed: String, Hashable, Sendable, Codable, CaseIterable {
  case expedited
  case standard
  case bulk
}

/// One page of a listing.
public struct ObjectPage: Hashable, Sendable {
  public var objects: [ObjectInfo]
  /// Give this as `after` for the next page; nil at the end.
  public var next: ObjectKey?

  public init(objects: [ObjectInfo], next: ObjectKey?) {
    self.objects = objects
    self.next = next
  }
}
