/// What a tier can do beyond the common contract.
public struct TierCapabilities: OptionSet, Hashable, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) { self.rawValue = rawValue }

  /// ``PutOptions/onlyIfAbsent`` of a body of at most ``smallBody`` bytes is decided by the tier in one step: of two
  /// writers, one wins. A longer body is refused if the object is there when its put starts.
  public static let conditionalPut = TierCapabilities(rawValue: 1 << 0)
  /// ``PutOptions/onlyIfAbsent`` is decided in one step for bodies of any length.
  public static let conditionalLargePut = TierCapabilities(rawValue: 1 << 6)

  /// In bytes: what every tier stores by one request.
  public static let smallBody = 4 << 20

  /// ``PutOptions/ifMatch`` is decided by the tier in one step, against every other writer.
  public static let compareAndSwap = TierCapabilities(rawValue: 1 << 1)
  /// ``PutOptions/lock``, ``PutOptions/legalHold`` and ``StorageTier/extendRetention(of:_:)`` are kept by the tier: until
  /// then nobody removes what is locked, nor replaces it (a tier with ``versions`` may take a new object of that name: the
  /// locked one stays as a version).
  public static let objectLock = TierCapabilities(rawValue: 1 << 2)
  /// ``PutOptions/storageClass`` is recorded, and ``ObjectInfo/storageClass`` tells it.
  public static let storageClasses = TierCapabilities(rawValue: 1 << 3)
  /// A replaced or removed object is kept as a version, out of sight of every call of the contract.
  public static let versions = TierCapabilities(rawValue: 1 << 4)
  /// Some storage classes are not readable until ``StorageTier/thaw(_:days:speed:)``.
  public static let archive = TierCapabilities(rawValue: 1 << 5)

  /// Each with its name, for people.
  public static let named: [(capability: TierCapabilities, name: String)] = [
    (.conditionalPut, "conditional put"), (.conditionalLargePut, "conditional put of any length"),
    (.compareAndSwap, "compare and swap"), (.objectLock, "object lock"),
    (.storageClasses, "storage classes"), (.versions, "versions"), (.archive, "archive"),
  ]
}
