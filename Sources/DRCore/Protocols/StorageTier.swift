public import NIOCore

public import struct Foundation.Date

/// Where objects live.
///
/// The contract that every tier keeps:
/// - After ``put(_:_:_:)`` returns, the object is durable and whole. Before, it is absent (or the old one is still
///   there, whole). A put that throws, or whose body throws, leaves the previous state; what it may leave besides is
///   invisible to every other call and removed by ``removeAbandonedUploads(olderThan:)``.
/// - ``get(_:range:)`` of an absent object throws `objectNotFound`, and only then: any other failure to look is
///   another code, so that "cannot reach" is never taken for "is not there".
/// - ``list(prefix:after:limit:)`` is in byte order of the keys and shows every object whose put returned.
public protocol StorageTier: Sendable {
  /// For people and logs, for example `local:/backups`. Holds no secret.
  var name: String { get }

  /// What this tier can do beyond the common contract.
  var capabilities: TierCapabilities { get }

  /// Stores an object, pulling its body.
  ///
  /// - Throws: ``DRError``: `objectExists` with ``PutOptions/onlyIfAbsent``, `noSpace`, `notWritable`,
  ///   `tierUnavailable`; or what the body threw.
  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo

  /// Reads an object or a range of its bytes. A range that reaches past the end is an error (`truncatedData`).
  ///
  /// - Throws: ``DRError``: `objectNotFound`, `truncatedData`, `tierUnavailable`; the stream throws the same.
  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream

  /// What is known about an object without reading it, or nil if it is absent.
  ///
  /// - Throws: ``DRError`` with `tierUnavailable`.
  func head(_ key: ObjectKey) async throws -> ObjectInfo?

  /// One page of the objects whose key starts with the prefix (a plain text prefix, not a folder), after the given key.
  ///
  /// - Throws: ``DRError`` with `tierUnavailable`.
  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage

  /// Removes an object. To remove an absent one is no error. When it returns, the removal is durable.
  ///
  /// - Throws: ``DRError``: `notWritable`, `tierUnavailable`.
  func delete(_ key: ObjectKey) async throws

  /// Removes what puts that never finished have left, if older than the date. Returns how many.
  ///
  /// - Throws: ``DRError``: `notWritable`, `tierUnavailable`.
  func removeAbandonedUploads(olderThan date: Date) async throws -> Int
}

/// What a tier can do beyond the common contract.
public struct TierCapabilities: OptionSet, Hashable, Sendable {
  public let rawValue: Int

  public init(rawValue: Int) { self.rawValue = rawValue }

  /// ``PutOptions/onlyIfAbsent`` is decided by the tier in one step: of two writers, one wins.
  public static let conditionalPut = TierCapabilities(rawValue: 1 << 0)
}

/// How to put an object.
public struct PutOptions: Hashable, Sendable {
  /// Fail with `objectExists` if the key is taken.
  public var onlyIfAbsent: Bool
  /// The length of the body in bytes, or a good guess, where it is known beforehand.
  public var expectedLength: Int64?

  public init(onlyIfAbsent: Bool = false, expectedLength: Int64? = nil) {
    self.onlyIfAbsent = onlyIfAbsent
    self.expectedLength = expectedLength
  }
}

/// What a tier knows about an object.
public struct ObjectInfo: Hashable, Sendable {
  public var key: ObjectKey
  /// In bytes.
  public var size: Int64
  /// On the tier's clock.
  public var modified: Date

  public init(key: ObjectKey, size: Int64, modified: Date) {
    self.key = key
    self.size = size
    self.modified = modified
  }
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

extension StorageTier {
  /// Every object under a prefix, page by page.
  ///
  /// - Throws: As ``list(prefix:after:limit:)``.
  public func listAll(prefix: String) async throws -> [ObjectInfo] {
    var all: [ObjectInfo] = []
    var after: ObjectKey?
    repeat {
      let page = try await list(prefix: prefix, after: after, limit: 1000)
      all += page.objects
      after = page.next
    } while after != nil
    return all
  }

  /// Reads a whole small object into memory.
  ///
  /// - Throws: As ``get(_:range:)``, and `malformedData` if the object is larger than the limit in bytes.
  public func read(_ key: ObjectKey, limit: Int = 64 << 20) async throws -> ByteBuffer {
    try await get(key, range: nil).collect(limit: limit, object: key.rawValue)
  }
}
