public import DRCore
import NIOCore
import Synchronization

public import struct Foundation.Date

/// A tier in memory, under a clock that a simulation sets: a plan of years is tested in milliseconds. Nothing in it outlives
/// the process.
///
/// It keeps retention locks and legal holds, and objects put in an archive class must be thawed, which takes the time that
/// it was told.
public final class InMemoryTier: StorageTier {
  /// What it has, if nothing else is asked for.
  public static let allCapabilities: TierCapabilities = [
    .conditionalPut, .conditionalLargePut, .compareAndSwap, .objectLock, .storageClasses, .archive,
  ]

  private struct Object {
    var info: ObjectInfo
    var bytes: ByteBuffer
    /// When it becomes readable, and until when it stays so.
    var thaw: (from: Date, until: Date)?
  }

  private struct State {
    var objects: [ObjectKey: Object] = [:]
    var tags = 0
  }

  public let name: String
  public let capabilities: TierCapabilities
  private let now: @Sendable () -> Date
  private let thawTime: @Sendable (ThawSpeed) -> Duration
  private let state = Mutex(State())

  /// - Parameters:
  ///   - now: The tier's clock.
  ///   - thawTime: From a request to a readable object.
  public init(
    name: String = "memory", capabilities: TierCapabilities = InMemoryTier.allCapabilities,
    now: @escaping @Sendable () -> Date = { Date() },
    thawTime: @escaping @Sendable (ThawSpeed) -> Duration = InMemoryTier.glacierTime
  ) {
    self.name = name
    self.capabilities = capabilities.intersection(InMemoryTier.allCapabilities)
    self.now = now
    self.thawTime = thawTime
  }

  /// What Glacier Flexible Retrieval takes at most.
  public static func glacierTime(_ speed: ThawSpeed) -> Duration {
    switch speed {
    case .expedited: .seconds(5 * 60)
    case .standard: .seconds(5 * 3600)
    case .bulk: .seconds(12 * 3600)
    }
  }

  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try checkSupported(options, for: key)
    try state.withLock { try check(key, options, $0) }
    var bytes = ByteBuffer()
    for try await buffer in body {
      try Task.checkCancellation()
      bytes.writeImmutableBuffer(buffer)
    }
    let content = bytes
    return try state.withLock { state in
      try check(key, options, state)
      state.tags += 1
      let storageClass = options.storageClass ?? (capabilities.contains(.storageClasses) ? .standard : nil)
      let info = ObjectInfo(
        key: key, size: Int64(content.readableBytes), modified: now(), entityTag: "\(state.tags)",
        storageClass: storageClass,
        archive: capabilities.contains(.archive) && storageClass?.isArchive == true ? .archived : nil,
        lock: options.lock, legalHold: options.legalHold)
      state.objects[key] = Object(info: info, bytes: content)
      return info
    }
  }

  private func check(_ key: ObjectKey, _ options: PutOptions, _ state: State) throws {
    let object = state.objects[key]
    if options.onlyIfAbsent, object != nil {
      throw DRError(.objectExists, "the object is there already", object: key.rawValue)
    }
    if let tag = options.ifMatch, object?.info.entityTag != tag {
      throw DRError(.preconditionFailed, "the object is not the one to replace", object: key.rawValue)
    }
    if let object { try refuseLocked(object) }
  }

  private func refuseLocked(_ object: Object) throws {
    if object.info.legalHold {
      throw DRError(
        .objectLocked, "the object is under a legal hold", advice: "let it go first", object: object.info.key.rawValue)
    }
    if let until = object.info.lockedUntil, until > now() {
      throw DRError(
        .objectLocked, "the object is locked until \(Timestamp.format(until))", object: object.info.key.rawValue)
    }
  }

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    let bytes = try state.withLock { state in
      guard let object = state.objects[key] else {
        throw DRError(.objectNotFound, "there is no such object", object: key.rawValue)
      }
      if let archive = seen(object).archive, !archive.isReadable {
        throw DRError(
          .objectArchived, "the object is in the archive class \(object.info.storageClass?.rawValue ?? "")",
          advice: archive == .thawing ? "it is being thawed: wait" : "thaw it, wait until it is readable, then read it",
          object: key.rawValue)
      }
      return object.bytes
    }
    let size = Int64(bytes.readableBytes)
    let range = range ?? 0..<size
    guard range.lowerBound >= 0, range.upperBound <= size,
      let slice = bytes.getSlice(at: bytes.readerIndex + Int(range.lowerBound), length: range.count)
    else {
      throw DRError(
        .truncatedData, "bytes \(range.lowerBound) to \(range.upperBound) were asked for, and there are \(size)",
        object: key.rawValue)
    }
    let rest = MutableBox(slice)
    return ByteStream {
      rest.withLock { $0.readableBytes > 0 ? $0.readSlice(length: min(1 << 20, $0.readableBytes)) : nil }
    }
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? {
    state.withLock { $0.objects[key].map(seen) }
  }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    let limit = max(1, limit)
    var found = state.withLock { state in
      state.objects.values.filter { object in
        object.info.key.rawValue.utf8.starts(with: prefix.utf8) && (after.map { $0 < object.info.key } ?? true)
      }.map(seen)
    }.sorted { $0.key < $1.key }
    guard found.count > limit else { return ObjectPage(objects: found, next: nil) }
    found.removeLast(found.count - limit)
    return ObjectPage(objects: found, next: found.last?.key)
  }

  public func delete(_ key: ObjectKey) async throws {
    try state.withLock { state in
      guard let object = state.objects[key] else { return }
      try refuseLocked(object)
      state.objects[key] = nil
    }
  }

  public func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError] {
    guard capabilities.contains(.archive) else {
      throw DRError(.unsupported, "\(name) cannot thaw: it has no archive", advice: "use another tier")
    }
    return state.withLock { state in
      var failures: [ObjectKey: DRError] = [:]
      for key in keys {
        guard let object = state.objects[key] else {
          failures[key] = DRError(.objectNotFound, "there is no such object", object: key.rawValue)
          continue
        }
        let kept = Double(max(1, days)) * 86_400
        switch seen(object).archive {
        case nil, .thawing: continue
        case .thawed: state.objects[key]?.thaw?.until = now().addingTimeInterval(kept)
        case .archived:
          let ready = now().addingTimeInterval(thawTime(speed) / .seconds(1))
          state.objects[key]?.thaw = (ready, ready.addingTimeInterval(kept))
        }
      }
      return failures
    }
  }

  public func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws {
    try change(key) { info in
      guard let old = info.lock, old.until > now() else {
        info.lock = lock
        return
      }
      info.lock = RetentionLock(max(old.mode, lock.mode), until: max(old.until, lock.until))
    }
  }

  public func setLegalHold(_ held: Bool, on key: ObjectKey) async throws { try change(key) { $0.legalHold = held } }

  private func change(_ key: ObjectKey, _ body: (inout ObjectInfo) -> Void) throws {
    guard capabilities.contains(.objectLock) else {
      throw DRError(
        .unsupported, "\(name) cannot lock objects", advice: "use another tier", object: key.rawValue)
    }
    try state.withLock { state in
      guard var object = state.objects[key] else {
        throw DRError(.objectNotFound, "there is no such object", object: key.rawValue)
      }
      body(&object.info)
      state.objects[key] = object
    }
  }

  /// A put that did not end has left nothing.
  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int { 0 }

  private func seen(_ object: Object) -> ObjectInfo {
    var info = object.info
    guard info.archive != nil, let thaw = object.thaw else { return info }
    let now = now()
    info.archive = now < thaw.from ? .thawing : now < thaw.until ? .thawed(until: thaw.until) : .archived
    return info
  }
}
