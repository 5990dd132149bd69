public import NIOCore

/// What a tier that lacks a capability answers, and what can be composed of the rest.
extension StorageTier {
  public func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError] {
    var failures: [ObjectKey: DRError] = [:]
    for key in keys {
      try Task.checkCancellation()
      do {
        try await delete(key)
      } catch let error as DRError {
        failures[key] = error
      }
    }
    return failures
  }

  public func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo {
    guard let info = try await head(key) else {
      throw DRError(.objectNotFound, "there is no such object", object: key.rawValue)
    }
    var options = options
    options.expectedLength = info.size
    // Whole, whatever its size is by now: a range could be a part of an object that replaced it.
    return try await put(target, try await get(key, range: nil), options)
  }

  public func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError] {
    throw unsupported("cannot thaw: it has no archive")
  }

  public func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws {
    throw unsupported("cannot lock objects", key)
  }

  public func setLegalHold(_ held: Bool, on key: ObjectKey) async throws {
    throw unsupported("cannot hold objects", key)
  }

  public func unfinishedUploads() async throws -> [UnfinishedUpload] { [] }

  /// Refuses options that are not among the capabilities, for a tier to call before it does anything else.
  ///
  /// - Throws: ``DRError``: `unsupported`; `invalidConfiguration` for a pair of conditions that can never hold.
  public func checkSupported(_ options: PutOptions, for key: ObjectKey) throws {
    if options.onlyIfAbsent, options.ifMatch != nil {
      throw DRError(
        .invalidConfiguration, "an object cannot be absent and have an entity tag", object: key.rawValue)
    }
    if options.onlyIfAbsent, !capabilities.contains(.conditionalPut) {
      throw DRError(
        .unsupported, "\(name) cannot put an object only if it is absent, so it cannot decide between two writers",
        advice: "use a tier with conditional put; or, if no other process ever writes there, say so (soleWriter)",
        object: key.rawValue)
    }
    if options.ifMatch != nil, !capabilities.contains(.compareAndSwap) {
      throw unsupported("cannot compare and swap", key)
    }
    if options.storageClass != nil, !capabilities.contains(.storageClasses) {
      throw unsupported("has no storage classes", key)
    }
    if options.lock != nil || options.legalHold, !capabilities.contains(.objectLock) {
      throw unsupported("cannot lock objects", key)
    }
  }

  private func unsupported(_ what: String, _ key: ObjectKey? = nil) -> DRError {
    DRError(
      .unsupported, "\(name) \(what)", advice: "look at the tier's capabilities, or use another tier",
      object: key?.rawValue)
  }

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
