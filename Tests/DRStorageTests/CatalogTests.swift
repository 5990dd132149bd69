import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Which backups there are, and which one reaches a target.
struct CatalogTests {
  private static func moment(_ text: String) throws -> Date { try #require(Timestamp.parse(text)) }

  @Test("The newest backup at or before a moment is found by time, whatever its name, system or timeline")
  func byTime() async throws {
    try await withLocalTier { tier, _ in
      let component = try Component.postgres("app")
      let clock = TestClock("2026-11-23T02:00:00Z")
      let repository = Repository(tier: tier, now: clock.now)
      // An upgrade makes a new system, whose identifier sorts first and whose timeline starts anew.
      for (time, system, timeline) in [
        ("2026-11-20T02:00:10Z", "7999", "9"), ("2026-11-21T02:00:10Z", "7999", "10"),
        ("2026-11-22T02:00:10Z", "7001", "1"), ("2026-11-19T02:00:10Z", "7999", "9"),
      ] {
        var source = MemorySource.sample(component)
        source.systemIdentifier = system
        source.recoveryPoint = RecoveryPoint(time: try Self.moment(time), position: "0/28", history: timeline)
        _ = try await repository.backUp(source, cadence: .daily, logger: quiet)
        clock.advance(1)
      }
      let catalog = try await repository.catalog()
      #expect(catalog.backups.map { $0.systemIdentifier ?? "" } == ["7001", "7999", "7999", "7999"])
      #expect(catalog.backups.map(\.id.last) == ["2", "3", "0", "1"])

      func found(_ time: String, _ system: String? = nil) throws -> Character? {
        try catalog.backup(of: component, for: Self.moment(time), systemIdentifier: system).id.last
      }
      #expect(try found("2026-12-01T00:00:00Z") == "2")
      #expect(try found("2026-12-01T00:00:00Z", "7999") == "1")
      #expect(try found("2026-11-21T02:00:10Z") == "1")
      #expect(try found("2026-11-21T02:00:09.999999Z") == "0")
      #expect(try found("2026-11-19T02:00:10Z") == "3")
      for (time, system) in [
        ("2026-11-19T02:00:09Z", nil), ("2026-11-21T00:00:00Z", "7001"), ("2027-01-01T00:00:00Z", "1"),
      ] {
        #expect(await code { _ = try found(time, system) } == .targetUnreachable)
      }
      // What the component was before is not denied.
      let former = #expect(throws: DRError.self) { _ = try found("2026-11-21T00:00:00Z", "7001") }
      #expect(former?.message.contains("of system 7001") == true, "\(String(describing: former))")
      let named = try found("2026-11-21T00:00:00Z", "7999") == "0"
      #expect(named && former?.advice?.contains("another system, 7999") == true)
      let first = #expect(throws: DRError.self) { _ = try found("2026-11-19T02:00:09Z", "7001") }
      #expect(first?.advice?.contains("another system") == false)
      #expect(catalog.latest(for: component)?.id.last == "2")
      #expect(catalog.latest(for: component, systemIdentifier: "7999")?.id.last == "1")
      #expect(catalog.latest(for: try .postgres("other")) == nil)
      #expect(try catalog.backup(of: component, for: .latest).id.last == "2")
      #expect(try catalog.backup(of: component, for: .immediate, systemIdentifier: "7999").id.last == "1")

      #expect(await code { _ = try catalog.backup(of: component, for: .position("0/99")) } == .invalidConfiguration)
      let timeline10 = try catalog.backup(of: component, for: .position("0/99")) { point, position in
        point.history == "10" && position == "0/99"
      }
      #expect(timeline10.id.last == "1")
    }
  }

  @Test("A backup is found by its identity, and two of one identity must be told apart")
  func byIdentity() async throws {
    try await withLocalTier { tier, _ in
      let repository = Repository(tier: tier, layout: .byKindAndName, now: TestClock().now)
      let components = [try Component.postgres("a"), try Component.postgres("b")]
      for component in components {
        _ = try await repository.backUp(MemorySource.sample(component), cadence: .daily, logger: quiet)
      }
      let catalog = try await repository.catalog()
      let id = "backup_20261123_020000"
      #expect(try catalog.backup(id: id, of: components[1]).component == components[1])
      #expect(await code { _ = try catalog.backup(id: id) } == .invalidConfiguration)
      #expect(await code { _ = try catalog.backup(id: "backup_20261123_020001") } == .objectNotFound)
      #expect(await code { _ = try catalog.backup(id: id, of: .postgres("c")) } == .objectNotFound)
    }
  }

  @Test("A manifest that is damaged, from the future, or not at its place hides no other")
  func unreadable() async throws {
    try await withLocalTier { tier, path in
      let component = try Component.postgres("app")
      let clock = TestClock()
      let repository = Repository(tier: tier, now: clock.now)
      var backups: [BackupManifest] = []
      for _ in 0..<4 {
        backups.append(try await repository.backUp(MemorySource.sample(component), cadence: .daily, logger: quiet))
        clock.advance(86_400)
      }
      func url(_ backup: BackupManifest) -> URL {
        URL(fileURLWithPath: "\(path)/postgres/metadata/\(backup.id).json")
      }
      let good = try String(contentsOf: url(backups[1]), encoding: .utf8)
      let unsealed = try #require(good.firstRange(of: ",\n  \"sha256\""))
      let future = good[..<unsealed.lowerBound].replacingOccurrences(
        of: "\"formatVersion\" : \"\(BackupManifest.formatVersion)\"", with: "\"formatVersion\" : \"2.0\"")
      #expect(future.contains("2.0"))
      try BackupManifest.sealed(Data((future + "\n}").utf8)).write(to: url(backups[1]))
      try String(good.dropLast(200)).write(to: url(backups[2]), atomically: false, encoding: .utf8)
      // A copy under another name is not another backup.
      try FileManager.default.copyItem(
        atPath: url(backups[3]).path, toPath: "\(path)/postgres/metadata/backup_20270101_000000.json")
      // Neither is anything else that somebody left there.
      for foreign in ["README.json", "backup_1.json", "backup_20261123_020000.json.orig"] {
        try Data("x".utf8).write(to: URL(fileURLWithPath: "\(path)/postgres/metadata/\(foreign)"))
      }

      let catalog = try await repository.catalog(of: component)
      #expect(catalog.backups == [backups[0], backups[3]])
      #expect(catalog.unreadable.map(\.id) == [backups[1].id, backups[2].id, "backup_20270101_000000"])
      #expect(catalog.unreadable.map(\.error.code) == [.unsupportedVersion, .malformedData, .malformedData])
      #expect(catalog.unreadable.allSatisfy { $0.error.object == $0.key.rawValue })
      #expect(catalog.latest(for: component) == backups[3])
      #expect(await code { _ = try catalog.backup(id: backups[1].id) } == .unsupportedVersion)

      // Whatever an unreadable manifest says, its backup is not taken for remains.
      let before = files(in: path)
      let outcome = try await Repository(tier: tier).cleanInterrupted(olderThan: .zero, logger: quiet)
      #expect(outcome.backups.isEmpty)
      #expect(files(in: path) == before)
    }
  }

  @Test("A flipped byte anywhere in a stored manifest is found, and the manifest named")
  func everyByteOfAManifest() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier, now: TestClock().now)
      let backup = try await repository.backUp(
        MemorySource.sample(try .postgres("app")), cadence: .daily, logger: quiet)
      let key = "postgres/metadata/\(backup.id).json"
      let file = URL(fileURLWithPath: "\(path)/\(key)")
      let whole = try Data(contentsOf: file)
      for offset in whole.indices {
        var damaged = whole
        damaged[offset] ^= 1 << (offset % 8)
        try damaged.write(to: file)
        let catalog = try await repository.catalog()
        #expect(catalog.backups.isEmpty, "byte \(offset)")
        #expect(catalog.unreadable.map(\.key.rawValue) == [key] && catalog.unreadable.first?.error.object == key)
      }
      try whole.write(to: file)
      #expect(try await repository.catalog().backups == [backup])
    }
  }

  @Test("Objects that are not of the repository's form are passed by, and a change log costs the catalog nothing")
  func foreignObjects() async throws {
    try await withLocalTier { tier, path in
      let component = try Component.postgres("app")
      let repository = Repository(tier: tier)
      let backup = try await repository.backUp(MemorySource.sample(component), cadence: .daily, logger: quiet)
      for key in ["a", "postgres0", "Postgres/metadata/x", "postgres-/x", "zz/metadata/backup_20261123_020000.json/x"] {
        try await tier.put(key, "x")
      }
      let log = "\(path)/postgres/wal/7301"
      try FileManager.default.createDirectory(atPath: log, withIntermediateDirectories: true)
      for number in 0..<1500 { try Data("x".utf8).write(to: URL(fileURLWithPath: "\(log)/\(number)")) }
      let counting = FaultInjectingTier(tier, failing: 0, .before)
      let catalog = try await Repository(tier: counting).catalog()
      #expect(catalog.backups == [backup])
      // Only the metadata folders are listed; the way past the log is one call for each folder.
      let listed = counting.calls.map(\.description).filter { $0.hasPrefix("list") }
      #expect(listed.filter { $0 != "list " } == ["postgres-", "postgres", "zz"].map { "list \($0)/metadata/" })
      #expect(listed.count < 14)
    }
  }

  @Test("A tier that goes away while the catalog is read is an error, not an empty catalog")
  func unreachable() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      _ = try await repository.backUp(MemorySource.sample(try .postgres("app")), cadence: .daily, logger: quiet)
      let calls = FaultInjectingTier(tier, failing: 0, .before)
      _ = try await Repository(tier: calls).catalog()
      rename(path, path + ".gone")
      #expect(await code { _ = try await repository.catalog() } == .tierUnavailable)
      rename(path + ".gone", path)
      for call in 1...calls.calls.count {
        let fault = FaultInjectingTier(tier, failing: call, .before, killing: true)
        await #expect(throws: (any Error).self, "call \(call): \(calls.calls[call - 1])") {
          _ = try await Repository(tier: fault).catalog()
        }
      }
    }
  }
}
