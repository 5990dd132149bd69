public import struct Foundation.Date

/// Where objects live.
///
/// The contract that every tier keeps, and that `StorageTierConformance` checks:
/// - After ``put(_:_:_:)`` returns, the object is durable and whole. Before, it is absent (or the old one is still
///   there, whole). A put that throws, or whose body throws, leaves the previous state, unless the tier could not be
///   asked what became of it (`tierUnavailable`, `timedOut`): then the object is the old one or the new one, each whole.
///   What a put may leave besides is invisible to every other call and removed by
///   ``removeAbandonedUploads(olderThan:)``.
/// - ``get(_:range:)`` of an absent object throws `objectNotFound`, and only then: any other failure to look is
///   another code, so that "cannot reach" is never taken for "is not there".
/// - ``list(prefix:after:limit:)`` is in byte order of the keys and shows every object whose put returned.
/// - What a tier cannot do is not in its ``capabilities``, and to ask for it throws `unsupported` before anything
///   happens: no option is ever ignored.
public protocol StorageTier: Sendable {
  /// For people and logs, for example `local:/backups`. Holds no secret.
  var name: String { get }

  /// What this tier can do beyond the common contract. The same for as long as the tier is open.
  var capabilities: TierCapabilities { get }

  /// Stores an object, pulling its body.
  ///
  /// - Throws: ``DRError``: `objectExists` with ``PutOptions/onlyIfAbsent``, `preconditionFailed` with
  ///   ``PutOptions/ifMatch``, `objectLocked`, `unsupported` for an option that is not among the ``capabilities``,
  ///   `noSpace`, `notWritable`, `tierUnavailable`, `timedOut`; or what the body threw.
  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo

  /// Reads an object or a range of its bytes. A range that reaches past the end is an error (`truncatedData`). A stream
  /// that ends without an error gave every byte that was asked for.
  ///
  /// - Throws: ``DRError``: `objectNotFound`, `objectArchived` (its advice says how to thaw it), `truncatedData`,
  ///   `tierUnavailable`, `timedOut`; the stream throws the same.
  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream

  /// What is known about an object without reading it, or nil if it is absent. Everything in ``ObjectInfo`` that the tier
  /// knows is there.
  ///
  /// - Throws: ``DRError``: `tierUnavailable`, `timedOut`.
  func head(_ key: ObjectKey) async throws -> ObjectInfo?

  /// One page of the objects whose key starts with the prefix (a plain text prefix, not a folder), after the given key.
  /// Size and time are always there; the rest of ``ObjectInfo`` as far as the tier's listing has it.
  ///
  /// - Throws: ``DRError``: `tierUnavailable`, `timedOut`.
  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage

  /// Removes an object. To remove an absent one is no error. When it returns, the removal is durable.
  ///
  /// - Throws: ``DRError``: `objectLocked`, `notWritable`, `tierUnavailable`, `timedOut`.
  func delete(_ key: ObjectKey) async throws

  /// Removes many objects, each as by ``delete(_:)``: one that cannot be removed keeps no other from it. The default asks
  /// for one after the other.
  ///
  /// - Returns: What went wrong, by key; empty if all are gone.
  /// - Throws: ``DRError`` with `tierUnavailable`, `timedOut` or `notWritable` when nothing is known of any; or
  ///   `CancellationError`.
  func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError]

  /// Copies an object within the tier, unchanged. What ``put(_:_:_:)`` promises holds for the copy. The default reads and
  /// writes it; a tier that can copy on its own side does that.
  ///
  /// - Throws: As ``get(_:range:)`` and ``put(_:_:_:)``.
  func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo

  /// Asks for archived objects to be made readable for so many days. Returns when every request was taken, not when it is
  /// done: ``head(_:)`` tells (``ObjectInfo/archive``). One that is being thawed already, is thawed, or was never archived
  /// is no failure; a thawed one is kept for so many days from now, where the tier can.
  ///
  /// - Parameter days: From 1.
  /// - Returns: What went wrong, by key; empty if every request was taken.
  /// - Throws: ``DRError`` with `unsupported` without ``TierCapabilities/archive``; as ``deleteAll(_:)``.
  func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError]

  /// Makes an object unremovable until a moment. Never shortens: one that is held for longer stays so, and that is no
  /// error. A stricter mode replaces a weaker one, never the other way.
  ///
  /// - Throws: ``DRError``: `unsupported` without ``TierCapabilities/objectLock``, `objectNotFound`, `notWritable`,
  ///   `tierUnavailable`, `timedOut`.
  func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws

  /// Holds an object until it is let go again, whatever its retention says.
  ///
  /// - Throws: As ``extendRetention(of:_:)``.
  func setLegalHold(_ held: Bool, on key: ObjectKey) async throws

  /// Removes what puts that never finished have left, if older than the date. Returns how many.
  ///
  /// - Throws: ``DRError``: `notWritable`, `tierUnavailable`, `timedOut`.
  func removeAbandonedUploads(olderThan date: Date) async throws -> Int

  /// What ``removeAbandonedUploads(olderThan:)`` with a date in the future would remove: what puts that run, or were killed, have
  /// stored so far. The default, for a tier whose puts leave nothing, or that cannot tell, is none.
  ///
  /// - Throws: ``DRError``: `tierUnavailable`, `timedOut`.
  func unfinishedUploads() async throws -> [UnfinishedUpload]
}
