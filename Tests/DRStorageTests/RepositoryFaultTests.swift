import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// A backup that is interrupted at every call to its tier, before the call, in the middle of it and after it.
struct RepositoryFaultTests {
  private struct Case: CustomStringConvertible {
    var call: Int
    var fault: FaultInjectingTier.Fault
    var killing: Bool
    var description: String { "\(killing ? "killed" : "failing") \(fault) call \(call)" }
  }

  @Test("Interrupted anywhere, a backup is whole or absent, the one before is whole, and the rest can be cleaned")
  func everyCall() async throws {
    let component = try Component.postgres("app")
    let source = MemorySource.sample(component)
    let next = MemorySource.sample(component, seed: 9)
    try await withLocalTier { tier, path in
      let clock = TestClock()
      let first = try await Repository(tier: tier, now: clock.now).backUp(
        source, cadence: .daily, encoding: smallFrames, logger: quiet)
      let before = files(in: path)
      clock.advance(86_400)

      let counting = FaultInjectingTier(tier, failing: 0, .before)
      let undisturbed = try await Repository(tier: counting, now: clock.now).backUp(
        next, cadence: .daily, encoding: smallFrames, logger: quiet)
      let calls = counting.calls
      try await Repository(tier: tier).delete(undisturbed, logger: quiet)
      #expect(files(in: path) == before)

      var cases: [Case] = []
      for call in 1...calls.count {
        for fault in FaultInjectingTier.Fault.failing {
          for killing in [false, true] { cases.append(Case(call: call, fault: fault, killing: killing)) }
        }
      }
      var committed = 0
      for fault in cases {
        let comment = Comment(rawValue: "\(fault): \(calls[fault.call - 1])")
        let faulty = FaultInjectingTier(tier, failing: fault.call, fault.fault, killing: fault.killing)
        let backup = try? await Repository(tier: faulty, now: clock.now).backUp(
          next, cadence: .daily, encoding: smallFrames, logger: quiet)

        let repository = Repository(tier: tier)
        let catalog = try await repository.catalog()
        #expect(catalog.unreadable.isEmpty, comment)
        #expect(catalog.backups.contains(first), comment)
        if let backup { #expect(catalog.backups.contains(backup), comment) }
        #expect(catalog.backups.count <= 2, comment)
        for found in catalog.backups {
          let expected = found.id == first.id ? source.artifacts : next.artifacts
          #expect(try await repository.contents(found) == expected, comment)
        }
        // What failed and was not killed cleans up behind itself. Only where the answer to the very first put, or to
        // the last removal, was lost, its marker can stay.
        let remains = files(in: path).subtracting(before)
        if !fault.killing, backup == nil { #expect(remains.allSatisfy { $0.hasSuffix(".inprogress") }, comment) }

        // Within the grace nothing is touched; after it exactly what no manifest holds.
        try await repository.cleanInterrupted(logger: quiet)
        #expect(files(in: path) == before.union(remains), comment)
        let cleaned = try await repository.cleanInterrupted(olderThan: .zero, logger: quiet)
        var whole = before
        for found in catalog.backups where found.id != first.id {
          committed += 1
          whole.formUnion(found.artifacts.map(\.key.rawValue) + ["postgres/metadata/\(found.id).json"])
        }
        #expect(files(in: path) == whole, comment)
        #expect(Set(cleaned.objects.map(\.rawValue)) == remains.subtracting(whole), comment)
        #expect(try await repository.contents(first) == source.artifacts, comment)
        for found in catalog.backups where found.id != first.id { try await repository.delete(found, logger: quiet) }
        #expect(files(in: path) == before, comment)
      }
      // Both outcomes were seen.
      #expect(committed > 0 && committed < cases.count / 2)
    }
  }

  @Test("A deletion that is interrupted anywhere leaves a whole backup or none, and the rest can be cleaned")
  func everyCallOfDeletion() async throws {
    let component = try Component.postgres("app")
    let source = MemorySource.sample(component)
    try await withLocalTier { tier, path in
      let clock = TestClock()
      let repository = Repository(tier: tier, now: clock.now)
      let kept = try await repository.backUp(source, cadence: .daily, logger: quiet)
      let before = files(in: path)
      for call in 1...5 {
        for fault in FaultInjectingTier.Fault.failing {
          clock.advance(60)
          let backup = try await repository.backUp(source, cadence: .hourly, logger: quiet)
          let faulty = Repository(tier: FaultInjectingTier(tier, failing: call, fault, killing: true))
          await #expect(throws: DRError.self) { try await faulty.delete(backup, logger: quiet) }
          let catalog = try await repository.catalog()
          #expect(catalog.unreadable.isEmpty)
          for found in catalog.backups { #expect(try await repository.contents(found) == source.artifacts) }
          try await Repository(tier: tier).cleanInterrupted(olderThan: .zero, logger: quiet)
          if catalog.backups.contains(backup) { try await repository.delete(backup, logger: quiet) }
          #expect(files(in: path) == before, "call \(call) \(fault)")
        }
      }
      #expect(try await repository.contents(kept) == source.artifacts)
    }
  }

  @Test("Cleaning leaves a running backup, and what it does not know, alone")
  func cleaningBesides() async throws {
    try await withLocalTier { tier, path in
      let component = try Component.postgres("app")
      // An hour behind, as the clock of another host may be.
      let repository = Repository(tier: tier, now: { Date(timeIntervalSinceNow: -3600) })
      let foreign = [
        "postgres/daily/notes.txt", "postgres/daily/backup_x/base.tar", "postgres/daily/backup_20200101_000000",
        "postgres/yearly/backup_20200101_000000/base.tar", "postgres/metadata/notes.inprogress", "other/daily/x",
        "postgres/wal/1/x",
      ]
      for key in foreign { try await tier.put(key, "x") }
      var source = MemorySource.sample(component)
      source.afterwards = { _ in
        let before = files(in: path)
        let outcome = try await Repository(tier: tier).cleanInterrupted(olderThan: .seconds(600), logger: quiet)
        #expect(outcome.backups.isEmpty && outcome.objects.isEmpty && outcome.uploads == 0)
        #expect(files(in: path) == before)
      }
      let backup = try await repository.backUp(source, cadence: .daily, logger: quiet)
      // Remains of a process that was killed long ago, with and without its marker, and its unfinished upload.
      let old: [FileAttributeKey: Any] = [.modificationDate: Date(timeIntervalSinceNow: -90_000)]
      let remains = [
        "postgres/daily/backup_20260101_000000/base.tar.zst", "postgres/metadata/backup_20260101_000000.inprogress",
        "postgres/weekly/backup_20260102_000000/a.zst", "postgres/metadata/backup_20260103_000000.inprogress",
      ]
      let upload = "\(path)/postgres/daily/backup_20260101_000000/.dr-tmp-0000"
      for key in remains { try await tier.put(key, "x") }
      try Data("x".utf8).write(to: URL(fileURLWithPath: upload))
      for file in remains.map({ "\(path)/\($0)" }) + [upload] {
        try FileManager.default.setAttributes(old, ofItemAtPath: file)
      }
      // One that is as old, but whose marker is fresh.
      let alive = [
        "postgres/daily/backup_20260104_000000/b.zst", "postgres/metadata/backup_20260104_000000.inprogress",
      ]
      for key in alive { try await tier.put(key, "x") }
      try FileManager.default.setAttributes(old, ofItemAtPath: "\(path)/\(alive[0])")

      let outcome = try await Repository(tier: tier).cleanInterrupted(logger: quiet)
      #expect(outcome.backups == ["backup_20260101_000000", "backup_20260102_000000", "backup_20260103_000000"])
      #expect(Set(outcome.objects.map(\.rawValue)) == Set(remains))
      #expect(outcome.uploads == 1)
      let kept = Set(foreign + alive + backup.artifacts.map(\.key.rawValue) + ["postgres/metadata/\(backup.id).json"])
      #expect(files(in: path) == kept)
      #expect(try await repository.contents(backup) == source.artifacts)
    }
  }

  @Test("An artifact that a manifest names is kept, wherever it lies")
  func referencedElsewhere() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier, now: TestClock().now)
      let backup = try await repository.backUp(
        MemorySource.sample(try .postgres("app")), cadence: .daily, logger: quiet)
      let shared = "postgres/weekly/backup_20260101_000000/base.tar.zst"
      var manifest = backup
      manifest.artifacts[0].key = try ObjectKey(shared)
      try await tier.put(shared, "x")
      _ = try await tier.put(
        ObjectKey("postgres/metadata/\(backup.id).json"), ByteStream(ByteBuffer(bytes: manifest.json())), PutOptions())
      let outcome = try await Repository(tier: tier).cleanInterrupted(olderThan: .zero, logger: quiet)
      #expect(outcome.objects.isEmpty)
      // Deleting the one that names it removes only what lies in its own folder.
      try await repository.delete(manifest, logger: quiet)
      #expect(files(in: path) == [shared])
    }
  }

  @Test("A manifest of the same name that is somebody else's is left alone")
  func foreignManifest() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier, now: TestClock().now)
      var source = MemorySource.sample(try .postgres("app"))
      source.afterwards = { try await tier.put("postgres/metadata/\($0.backupID).json", "of another host") }
      #expect(await code { _ = try await repository.backUp(source, cadence: .daily, logger: quiet) } == .objectExists)
      #expect(try await tier.text("postgres/metadata/backup_20261123_020000.json") == "of another host")
      // Nor is its identity taken again, although it cannot be read.
      source.afterwards = { _ in }
      let backup = try await repository.backUp(source, cadence: .daily, logger: quiet)
      #expect(backup.id == "backup_20261123_020001")
      #expect(try await tier.text("postgres/metadata/backup_20261123_020000.json") == "of another host")
      #expect(files(in: path).contains("postgres/daily/backup_20261123_020000/base.tar.zst"))
    }
  }
}
