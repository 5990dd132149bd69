public import struct Foundation.Date

/// How to put an object.
public struct PutOptions: Hashable, Sendable {
  /// Fail with `objectExists` if the key is taken.
  public var onlyIfAbsent: Bool
  /// The length of the body in bytes, or a good guess, where it is known beforehand.
  public var expectedLength: Int64?
  /// Replace only the object with this ``ObjectInfo/entityTag``; fail with `preconditionFailed` if there is another one or
  /// none. Needs ``TierCapabilities/compareAndSwap``.
  public var ifMatch: String?
  /// Nil: the tier's default. Needs ``TierCapabilities/storageClasses``.
  public var storageClass: StorageClass?
  /// Needs ``TierCapabilities/objectLock``.
  public var lock: RetentionLock?
  /// Held until it is let go (``StorageTier/setLegalHold(_:on:)``). Needs ``TierCapabilities/objectLock``.
  public var legalHold: Bool

  public init(
    onlyIfAbsent: Bool = false, expectedLength: Int64? = nil, ifMatch: String? = nil,
    storageClass: StorageClass? = nil, lock: RetentionLock? = nil, legalHold: Bool = false
  ) {
    self.onlyIfAbsent = onlyIfAbsent
    self.expectedLength = expectedLength
    self.ifMatch = ifMatch
    self.storageClass = storageClass
    self.lock = lock
    self.legalHold = legalHold
  }
}

/// Until when an object cannot be removed or replaced.
public struct RetentionLock: Hashable, Sendable {
  public enum Mode: String, Hashable, Sendable, Codable, Comparable {
    /// Who has a special permission may lift it.
    case governance
    /// Nobody can lift it, whoever asks.
    case compliance

    public static func < (left: Mode, right: Mode) -> Bool { left == .governance && right == .compliance }
  }

  public var mode: Mode
  public var until: Date

  public init(_ mode: Mode, until: Date) {
    self.mode = mode
    self.until = until
  }
}

/// How an object is kept: what it costs, how soon it can be read, how long it is paid for at least.
public struct StorageClass: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
  /// As S3 names it: `STANDARD_IA`.
  public let rawValue: String

  public init(rawValue: String) { self.rawValue = rawValue }

  public static let standard = StorageClass(rawValue: "STANDARD")
  public static let standardIA = StorageClass(rawValue: "STANDARD_IA")
  /// Glacier Instant Retrieval: readable at once.
  public static let glacierInstant = StorageClass(rawValue: "GLACIER_IR")
  /// Glacier Flexible Retrieval: archived.
  public static let glacier = StorageClass(rawValue: "GLACIER")
  public static let deepArchive = StorageClass(rawValue: "DEEP_ARCHIVE")

  /// Whether objects must be thawed before they can be read.
  public var isArchive: Bool { self == .glacier || self == .deepArchive }

  /// For how many days an object is paid for, even if it is removed before; 0 for a class that is not known.
  public var minimumDays: Int {
    switch self {
    case .standardIA: 30
    case .glacierInstant, .glacier: 90
    case .deepArchive: 180
    default: 0
    }
  }

  public var description: String { rawValue }
}
