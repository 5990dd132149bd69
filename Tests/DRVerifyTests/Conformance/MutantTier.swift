import DRCore
import DRStorage
import Foundation
import NIOCore

/// A tier that keeps the contract but for one promise.
struct MutantTier: StorageTier {
  enum Mutation: String, CaseIterable, Sendable {
    case losesRaces, ignoresOnlyIfAbsent, swapsBlindly, swapsAbsent, ignoresClass, ignoresLock, deletesLocked,
      shortensLock
    case replacesLocked, ignoresHold, readsArchived, forgetsThaw, thawsAbsent, refusesNothing
    case keepsBrokenBodies, storesBrokenBodies, swallowsBodyErrors, dropsLastByte, flipsABit, trustsExpectedLength
    case shortRange, rangeOffByOne, absentIsUnavailable, unavailableIsAbsent, emptyForAbsent, foundByFolder
    case listsUnordered, listsTwice, skipsAtPageEnd, prefixIsFolder, hidesNewest, afterInclusive, pageTooLong
    case tornReplace, headIsStale, keepsDeleted, refusesAbsentDelete, deletesNeighbours, deletesOneOfMany
    case copiesHead, movesInsteadOfCopy, copiesOver, sameTags, wrongSize, mergesSpellings, decodesKeys, removesUploads

    static let aboutLocks: [Mutation] = [.ignoresLock, .deletesLocked, .shortensLock, .replacesLocked, .refusesNothing]
  }

  let base: InMemoryTier
  let mutation: Mutation
  private let uploads = MutableBox<Set<ObjectKey>>([])
  private let deleted = MutableBox<Set<ObjectKey>>([])
  private let shortened = MutableBox<[ObjectKey: RetentionLock]>([:])
  private let heads = MutableBox<[ObjectKey: ObjectInfo]>([:])

  init(_ mutation: Mutation) {
    self.mutation = mutation
    // One that claims nothing, and refuses nothing, is another tier.
    base = InMemoryTier(thawTime: { _ in .milliseconds(300) })
  }

  var name: String { "mutant:\(mutation.rawValue)" }
  var capabilities: TierCapabilities {
    mutation == .refusesNothing ? [] : InMemoryTier.allCapabilities
  }

  private func changed(_ key: ObjectKey) throws -> ObjectKey {
    switch mutation {
    case .mergesSpellings: try ObjectKey(key.rawValue.precomposedStringWithCanonicalMapping)
    case .decodesKeys: try ObjectKey(key.rawValue.removingPercentEncoding ?? key.rawValue)
    default: key
    }
  }

  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    var (key, body, options) = (try changed(key), body, options)
    let expected = options.expectedLength
    switch mutation {
    case .ignoresOnlyIfAbsent: options.onlyIfAbsent = false
    case .losesRaces where options.onlyIfAbsent:
      if try await base.head(key) != nil { throw DRError(.objectExists, "there") }
      body = ByteStream(try await body.collect(limit: 1 << 30))
      options.onlyIfAbsent = false
    case .swapsBlindly where options.ifMatch != nil:
      guard try await base.head(key)?.entityTag == options.ifMatch else { throw DRError(.preconditionFailed, "other") }
      try await Task.sleep(for: .milliseconds(2))
      options.ifMatch = nil
    case .swapsAbsent where options.ifMatch != nil:
      if try await base.head(key) == nil { options.ifMatch = nil }
    case .ignoresClass: options.storageClass = nil
    case .ignoresLock: options.lock = nil
    case .ignoresHold: options.legalHold = false
    case .replacesLocked:
      if let old = try await base.head(key), old.lock != nil || old.legalHold {
        let fresh = InMemoryTier()
        return try await fresh.put(key, body, PutOptions())
      }
    case .refusesNothing: options = PutOptions()
    case .storesBrokenBodies, .swallowsBodyErrors:
      var whole = ByteBuffer()
      var failure: (any Error)?
      do {
        for try await buffer in body { whole.writeImmutableBuffer(buffer) }
      } catch { failure = error }
      let info = try await base.put(key, ByteStream(whole), failure == nil ? options : PutOptions())
      if let failure, mutation == .storesBrokenBodies { throw failure }
      return info
    case .keepsBrokenBodies:
      do {
        return try await base.put(key, body, options)
      } catch let error as DRError where error.code == "body-broke" {
        _ = try await base.put(key.appending("part"), ByteStream(ByteBuffer(string: "x")), PutOptions())
        throw error
      }
    case .dropsLastByte:
      let whole = try await body.collect(limit: 1 << 30)
      body = ByteStream(whole.getSlice(at: 0, length: max(0, whole.readableBytes - 1)) ?? whole)
    case .flipsABit:
      var whole = try await body.collect(limit: 1 << 30)
      if let byte = whole.getInteger(at: whole.readableBytes / 2, as: UInt8.self), whole.readableBytes > 4 << 20 {
        whole.setInteger(byte ^ 1, at: whole.readableBytes / 2)
      }
      body = ByteStream(whole)
    case .trustsExpectedLength:
      let whole = try await body.collect(limit: 1 << 30)
      body = ByteStream(whole.getSlice(at: 0, length: min(Int(expected ?? .max), whole.readableBytes)) ?? whole)
    case .tornReplace where options.ifMatch == nil && !options.onlyIfAbsent:
      let whole = try await body.collect(limit: 1 << 30)
      let half = whole.getSlice(at: 0, length: whole.readableBytes / 2) ?? whole
      if try await base.head(key) != nil { _ = try await base.put(key, ByteStream(half), PutOptions()) }
      try await Task.sleep(for: .milliseconds(3))
      body = ByteStream(whole)
    case .removesUploads: uploads.withLock { _ = $0.insert(key) }
    default: break
    }
    if mutation == .decodesKeys { key = try changed(key) }
    var info = try await base.put(key, body, options)
    deleted.withLock { _ = $0.remove(key) }
    if mutation == .removesUploads { uploads.withLock { _ = $0.remove(key) } }
    if mutation == .wrongSize { info.size = expected ?? info.size }
    if mutation == .sameTags { info.entityTag = "same" }
    return info
  }

  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    let key = try changed(key)
    let info = try await base.head(key)
    switch mutation {
    case .absentIsUnavailable where info == nil: throw DRError(.tierUnavailable, "not there")
    case .unavailableIsAbsent:
      if let range, let info, range.upperBound > info.size { throw DRError(.objectNotFound, "no such range") }
    case .emptyForAbsent where info == nil: return ByteStream(ByteBuffer())
    case .shortRange:
      if let range, let info {
        return try await base.get(key, range: min(range.lowerBound, info.size)..<min(range.upperBound, info.size))
      }
    case .rangeOffByOne:
      if let range, let info, range.upperBound < info.size, !range.isEmpty {
        return try await base.get(key, range: range.lowerBound..<range.upperBound + 1)
      }
    case .readsArchived where info?.archive != nil:
      return ByteStream(ByteBuffer())
    default: break
    }
    if mutation == .keepsDeleted, deleted.value.contains(key) { return ByteStream(ByteBuffer(string: "still")) }
    return try await base.get(key, range: range)
  }

  func head(_ key: ObjectKey) async throws -> ObjectInfo? {
    let key = try changed(key)
    var info = try await base.head(key)
    switch mutation {
    case .foundByFolder where info == nil:
      info = try await base.list(prefix: key.rawValue + "/", after: nil, limit: 1).objects.first
    case .headIsStale:
      if let old = heads.value[key], info != nil { return old }
      if let info { heads.withLock { $0[key] = info } }
    case .sameTags: info?.entityTag = "same"
    case .shortensLock: if let lock = shortened.value[key] { info?.lock = lock }
    case .forgetsThaw where info?.archive != nil: info?.archive = .archived
    default: break
    }
    return info
  }

  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    switch mutation {
    case .prefixIsFolder where !prefix.hasSuffix("/"):
      return try await base.list(prefix: prefix + "/", after: after, limit: limit)
    case .afterInclusive:
      let page = try await base.list(prefix: prefix, after: nil, limit: 10_000)
      let rest = page.objects.filter { object in after.map { $0 <= object.key } ?? true }
      let cut = Array(rest.prefix(limit))
      return ObjectPage(objects: cut, next: rest.count > limit ? cut.last?.key : nil)
    case .pageTooLong: return try await base.list(prefix: prefix, after: after, limit: limit + 1)
    default: break
    }
    var page = try await base.list(prefix: prefix, after: after, limit: limit)
    switch mutation {
    case .listsUnordered: page.objects.sort { $0.key.rawValue.lowercased() < $1.key.rawValue.lowercased() }
    case .listsTwice where page.next == nil: page.objects += page.objects.suffix(1)
    case .skipsAtPageEnd where page.next != nil && page.objects.count > 1: page.objects.removeLast()
    case .hidesNewest:
      let newest = page.objects.max { $0.modified < $1.modified }
      page.objects.removeAll { $0.key == newest?.key && Date().timeIntervalSince($0.modified) < 0.5 }
    default: break
    }
    return page
  }

  func delete(_ key: ObjectKey) async throws {
    let key = try changed(key)
    switch mutation {
    case .keepsDeleted: deleted.withLock { _ = $0.insert(key) }
    case .refusesAbsentDelete:
      if try await base.head(key) == nil { throw DRError(.objectNotFound, "nothing to remove") }
    case .deletesNeighbours:
      for object in try await base.listAll(prefix: key.rawValue) { try await base.delete(object.key) }
    case .deletesLocked:
      if let info = try await base.head(key), info.lock != nil || info.legalHold { return }
    default: break
    }
    try await base.delete(key)
  }

  func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError] {
    var failures: [ObjectKey: DRError] = [:]
    for key in mutation == .deletesOneOfMany ? Array(keys.prefix(1)) : keys {
      do { try await delete(key) } catch let error as DRError { failures[key] = error }
    }
    return failures
  }

  func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo {
    let (key, target) = (try changed(key), try changed(target))
    var options = options
    if mutation == .refusesNothing { options = PutOptions() }
    if mutation == .copiesOver || mutation == .ignoresOnlyIfAbsent { options.onlyIfAbsent = false }
    if mutation == .copiesHead {
      let bytes = try await base.read(key, limit: 1 << 30)
      let part = bytes.getSlice(at: 0, length: min(500_000, bytes.readableBytes)) ?? bytes
      var info = try await base.put(target, ByteStream(part), options)
      info.size = Int64(bytes.readableBytes)
      return info
    }
    let info = try await base.copy(key, to: target, options)
    if mutation == .movesInsteadOfCopy { try await base.delete(key) }
    return info
  }

  func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError] {
    if mutation == .refusesNothing { return [:] }
    let failures = try await base.thaw(keys, days: days, speed: speed)
    return mutation == .thawsAbsent ? [:] : failures
  }

  func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws {
    if mutation == .refusesNothing { return }
    if mutation == .shortensLock, let old = try await base.head(key)?.lock, old.until > lock.until {
      shortened.withLock { $0[key] = lock }
    }
    try await base.extendRetention(of: key, lock)
  }

  func setLegalHold(_ held: Bool, on key: ObjectKey) async throws {
    if mutation == .ignoresHold { return }
    try await base.setLegalHold(held, on: key)
  }

  func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    mutation == .removesUploads ? uploads.value.count : 0
  }
}
