import DRCore
import NIOCore

import struct Foundation.Date

extension StorageTierConformance {
  static let optional = [
    Check(name: "storage-classes", capability: .storageClasses, body: storageClasses),
    Check(name: "object-lock", capability: .objectLock, body: objectLock),
    Check(name: "legal-hold", capability: .objectLock, body: legalHold),
    Check(name: "archive", capability: .archive, body: archive),
  ]

  @Sendable private static func storageClasses(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let content = Bench.bytes(1000, 1)
    guard bench.tier.capabilities.contains(.storageClasses) else {
      return try await bench.expectUnsupported(key, PutOptions(storageClass: .standardIA))
    }
    for wanted in [StorageClass.standard, .standardIA] {
      _ = try await bench.put(key, content, PutOptions(storageClass: wanted))
      let info = try await bench.tier.head(key)
      bench.expect(
        info?.storageClass == wanted, "put as \(wanted), it is \(info?.storageClass?.rawValue ?? "of no class")")
      try await bench.expectContent(key, content, "of the class \(wanted)")
    }
    let large = Bench.bytes(bench.settings.largeSize, 2)
    _ = try await bench.put(key, large, PutOptions(storageClass: .standardIA))
    let info = try await bench.tier.head(key)
    bench.expect(
      info?.storageClass == .standardIA, "a large object is \(info?.storageClass?.rawValue ?? "of no class")")
  }

  @Sendable private static func objectLock(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let content = Bench.bytes(1000, 1)
    let long = Date(timeIntervalSinceNow: bench.settings.lockDuration / .seconds(1))
    guard bench.tier.capabilities.contains(.objectLock) else {
      try await bench.expectUnsupported(key, PutOptions(lock: RetentionLock(.governance, until: long)))
      return try await bench.expect(.unsupported, "a lock that the tier does not claim") {
        try await bench.tier.extendRetention(of: key, RetentionLock(.governance, until: long))
      }
    }
    let short = Date(timeIntervalSinceNow: bench.settings.lockDuration / .seconds(2))
    // The tier may count in seconds.
    let tolerance = bench.settings.lockDuration / .seconds(1) * 3 / 8
    _ = try await bench.put(key, content, PutOptions(lock: RetentionLock(.governance, until: short)))
    let first = try await bench.tier.head(key)?.lockedUntil
    bench.expect(
      first.map { abs($0.timeIntervalSince(short)) < tolerance } ?? false, "head does not tell until when it is locked")
    try await bench.expect(.objectLocked, "the removal of a locked object") { try await bench.tier.delete(key) }
    let failures = try await bench.tier.deleteAll([key])
    bench.expect(
      failures[key]?.code == .objectLocked, "removal with others gave \(failures[key]?.code.rawValue ?? "no error")")
    try await bench.expectContent(key, content, "locked, after its removal was refused")
    if !bench.tier.capabilities.contains(.versions) {
      try await bench.expect(.objectLocked, "a put onto a locked object") {
        _ = try await bench.put(key, Bench.bytes(10, 2))
      }
      try await bench.expectContent(key, content, "locked, after it was to be replaced")
    }
    try await bench.tier.extendRetention(of: key, RetentionLock(.governance, until: long))
    // Never shortened.
    try await bench.tier.extendRetention(of: key, RetentionLock(.governance, until: short))
    let extended = try await bench.tier.head(key)?.lockedUntil
    bench.expect(
      extended.map { abs($0.timeIntervalSince(long)) < tolerance } ?? false,
      "extended, then asked for less: the lock lasts until \(extended.map(Timestamp.format) ?? "never")")
    try await bench.expect(.objectNotFound, "to lock an absent object") {
      try await bench.tier.extendRetention(of: bench.key("absent"), RetentionLock(.governance, until: long))
    }
    let rest = long.timeIntervalSinceNow + tolerance
    if rest > 0 { try await Task.sleep(for: .seconds(rest)) }
    try await bench.tier.delete(key)
    let head = try await bench.tier.head(key)
    bench.expect(head == nil, "an object whose lock has ended is there after its removal")
  }

  @Sendable private static func legalHold(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let content = Bench.bytes(1000, 1)
    guard bench.tier.capabilities.contains(.objectLock) else {
      return try await bench.expectUnsupported(key, PutOptions(legalHold: true))
    }
    _ = try await bench.put(key, content, PutOptions(legalHold: true))
    let held = try await bench.tier.head(key)?.legalHold
    bench.expect(held == true, "head does not tell of the hold")
    try await bench.expect(.objectLocked, "the removal of a held object") { try await bench.tier.delete(key) }
    try await bench.expectContent(key, content, "held, after its removal was refused")
    try await bench.tier.setLegalHold(false, on: key)
    try await bench.tier.delete(key)
    _ = try await bench.put(key, content)
    try await bench.tier.setLegalHold(true, on: key)
    try await bench.expect(.objectLocked, "the removal of an object held later") { try await bench.tier.delete(key) }
    try await bench.tier.setLegalHold(false, on: key)
    try await bench.tier.delete(key)
    let head = try await bench.tier.head(key)
    bench.expect(head == nil, "an object that was let go is there after its removal")
  }

  @Sendable private static func archive(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let content = Bench.bytes(1000, 1)
    guard bench.tier.capabilities.contains(.archive) else {
      return try await bench.expect(.unsupported, "a thaw that the tier does not claim") {
        _ = try await bench.tier.thaw([key], days: 1, speed: .standard)
      }
    }
    _ = try await bench.put(key, content, PutOptions(storageClass: .glacier))
    let state = try await bench.tier.head(key)?.archive
    bench.expect(state == .archived, "an archived object is \(state.map { "\($0)" } ?? "readable")")
    do {
      _ = try await bench.read(key)
      bench.fail("an archived object was read without a thaw")
    } catch let error as DRError {
      bench.expect(error.code == .objectArchived, "get of an archived object threw \(error.code)")
      bench.expect(error.advice?.contains("thaw") ?? false, "the error does not say that it must be thawed")
    }
    let ready = try bench.key("ready")
    _ = try await bench.put(ready, content)
    let absent = try bench.key("absent")
    let failures = try await bench.tier.thaw([key, ready, absent], days: 1, speed: .standard)
    bench.expect(
      failures[key] == nil && failures[ready] == nil && failures[absent]?.code == .objectNotFound,
      "a thaw of an archived, a readable and an absent object failed for \(failures)")
    let again = try await bench.tier.thaw([key], days: 1, speed: .standard)
    bench.expect(again.isEmpty, "to ask for a thaw twice failed: \(again)")
    let end = ContinuousClock.now + bench.settings.thawLimit
    while ContinuousClock.now < end {
      let state = try await bench.tier.head(key)?.archive
      bench.expect(
        state != .archived && state != nil, "after a thaw was asked for it is \(state.map { "\($0)" } ?? "gone")")
      if state?.isReadable ?? false { return try await bench.expectContent(key, content, "thawed") }
      try await Task.sleep(for: .milliseconds(200))
    }
    bench.note("the thaw was asked for and not waited for")
  }
}

extension Bench {
  /// That an option which the tier does not claim is refused, not ignored.
  fileprivate func expectUnsupported(_ key: ObjectKey, _ options: PutOptions) async throws {
    try await expect(.unsupported, "an option that the tier does not claim") {
      _ = try await put(key, Bench.bytes(10, 1), options)
    }
    let head = try await tier.head(key)
    expect(head == nil, "a put that was refused left an object")
  }
}
