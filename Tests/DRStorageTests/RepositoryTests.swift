import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// Backups that are taken, read, found damaged, and deleted.
struct RepositoryTests {
  static let encodings = [
    Encoding(compression: .zstd(), frameSize: 64 << 10), Encoding(compression: .gzip(), frameSize: 64 << 10),
    Encoding(compression: .none, frameSize: 64 << 10),
  ]

  @Test("A backup lies in the plan's tree and reads back, whole and by range", arguments: encodings.indices)
  func roundTrip(number: Int) async throws {
    let encoding = Self.encodings[number]
    try await withLocalTier { tier, path in
      let clock = TestClock()
      let repository = Repository(tier: tier, now: clock.now)
      var source = MemorySource.sample(try .postgres("app"))
      source.artifacts["empty"] = ByteBuffer()
      let progress = MutableBox<[TransferProgress]>([])
      let backup = try await repository.backUp(source, cadence: .daily, encoding: encoding, logger: quiet) { seen in
        progress.withLock { $0.append(seen) }
      }
      let id = "backup_20261123_020000"
      let ending = encoding.pathExtension
      #expect(backup.id == id)
      #expect(
        files(in: path) == [
          "postgres/daily/\(id)/backup_manifest\(ending)", "postgres/daily/\(id)/base.tar\(ending)",
          "postgres/daily/\(id)/empty\(ending)", "postgres/metadata/\(id).json",
        ])
      #expect(backup.artifacts.map(\.name) == ["backup_manifest", "base.tar", "empty"])
      #expect(backup.serverVersion == "15.18" && backup.systemIdentifier == "7301")
      #expect(backup.started == clock.now() && backup.ended == clock.now())

      let catalog = try await repository.catalog()
      #expect(catalog.backups == [backup])
      #expect(catalog.unreadable.isEmpty)
      #expect(try await repository.contents(backup) == source.artifacts)
      let artifact = try backup.artifact("base.tar")
      let raw = try #require(source.artifacts["base.tar"])
      let reader = repository.reader(for: backup)
      for range in [0..<1, 65_535..<65_537, 100_000..<300_000, 299_999..<300_000, 7..<7] {
        let part = try await reader.read(artifact, range: Int64(range.lowerBound)..<Int64(range.upperBound))
        #expect(try await part.collect(limit: 1 << 30) == raw.getSlice(at: range.lowerBound, length: range.count))
      }
      for outside in [0..<Int64(300_001), -1..<4] {
        #expect(await code { _ = try await reader.read(artifact, range: outside) } == .invalidConfiguration)
      }
      let last = try #require(progress.value.last)
      #expect(last.finished && last.subject == id)
      #expect(last.done == backup.rawSize && last.stored == backup.storedSize && last.total == backup.rawSize)
    }
  }

  @Test("Stock tools open what is stored")
  func stockTools() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      let source = MemorySource.sample(try .postgres("app"))
      let backup = try await repository.backUp(source, cadence: .weekly, logger: quiet)
      let artifact = try backup.artifact("base.tar")
      let file = "\(path)/\(artifact.key)"
      let zstd = try await runCommand("zstd", ["-q", "-d", "-c", file])
      #expect(zstd.status == 0 && ByteBuffer(bytes: zstd.output) == source.artifacts["base.tar"])
      let digest = try await runCommand("sha256sum", [file])
      #expect(String(decoding: digest.output, as: UTF8.self).hasPrefix(artifact.storedSHA256))
    }
  }

  @Test("Twenty backups of one second have twenty identities and are all whole")
  func concurrent() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier, now: TestClock().now)
      let component = try Component.postgres("app")
      let taken = try await withThrowingTaskGroup(of: (BackupManifest, MemorySource).self) { group in
        for seed in 0..<20 {
          group.addTask {
            let source = MemorySource.sample(component, seed: UInt64(seed) * 10)
            let cadence = Cadence.all[seed % Cadence.all.count]
            return (try await repository.backUp(source, cadence: cadence, encoding: smallFrames, logger: quiet), source)
          }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(Set(taken.map(\.0.id)).count == 20)
      for (backup, source) in taken { #expect(try await repository.contents(backup) == source.artifacts) }
      #expect(try await repository.catalog().backups.count == 20)
      #expect(!files(in: path).contains { $0.hasSuffix(".inprogress") })
    }
  }

  @Test("With one folder for a kind, a second component is refused; with a folder for each, it is not")
  func secondComponent() async throws {
    try await withLocalTier { tier, path in
      let (first, second) = (try Component.postgres("first"), try Component.postgres("second"))
      let repository = Repository(tier: tier)
      _ = try await repository.backUp(MemorySource.sample(first), cadence: .daily, logger: quiet)
      let before = files(in: path)
      let error = await #expect(throws: DRError.self) {
        try await repository.backUp(MemorySource.sample(second), cadence: .hourly, logger: quiet)
      }
      #expect(error?.code == .invalidConfiguration)
      #expect(error?.message.contains("postgres/first") == true)
      #expect(files(in: path) == before)
      let other = MemorySource.sample(try Component(.redis, "cache"))
      _ = try await repository.backUp(other, cadence: .daily, logger: quiet)
      #expect(try await repository.catalog().backups.map(\.component.description) == ["postgres/first", "redis/cache"])
      #expect(try await repository.catalog(of: second).backups.isEmpty)
    }
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier, layout: .byKindAndName)
      for name in ["first", "second", "daily"] {
        _ = try await repository.backUp(MemorySource.sample(try .postgres(name)), cadence: .daily, logger: quiet)
      }
      let catalog = try await repository.catalog()
      #expect(catalog.backups.map(\.component.name) == ["daily", "first", "second"])
      #expect(files(in: path).contains { $0.hasPrefix("postgres/second/daily/backup_") })
      #expect(try await repository.catalog(of: .postgres("first")).backups.map(\.component.name) == ["first"])
      for backup in catalog.backups { #expect(try await repository.contents(backup).count == 2) }
    }
  }

  @Test("The first backups of two components at the same time do not share a folder")
  func secondComponentAtOnce() async throws {
    try await withLocalTier { tier, _ in
      let repository = Repository(tier: tier)
      var source = MemorySource.sample(try .postgres("first"))
      source.afterwards = { _ in
        let other = MemorySource.sample(try .postgres("second"))
        #expect(
          await code { _ = try await repository.backUp(other, cadence: .daily, logger: quiet) } == .invalidConfiguration
        )
      }
      _ = try await repository.backUp(source, cadence: .daily, logger: quiet)
      #expect(try await repository.catalog().backups.map(\.component.name) == ["first"])
    }
  }

  @Test("A source that breaks the rules of a writer commits nothing and leaves nothing")
  func brokenSources() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      let content = ByteBuffer(string: "x")
      let rules: [(String, @Sendable (any BackupWriter) async throws -> Void)] = [
        ("twice", { try await $0.write("base.tar", ByteStream(content), expectedLength: nil) }),
        ("slash", { try await $0.write("a/b", ByteStream(content), expectedLength: nil) }),
        ("parent", { try await $0.write("..", ByteStream(content), expectedLength: nil) }),
        ("empty name", { try await $0.write("", ByteStream(content), expectedLength: nil) }),
        ("thrown", { _ in throw DRError(.sourceFailed, "the server went away") }),
        ("cancelled", { _ in throw CancellationError() }),
      ]
      for (name, rule) in rules {
        var source = MemorySource.sample(try .postgres("app"))
        source.afterwards = rule
        await #expect(throws: (any Error).self, "\(name)") {
          try await repository.backUp(source, cadence: .daily, logger: quiet)
        }
        #expect(files(in: path).isEmpty, "\(name)")
      }
      var nothing = MemorySource.sample(try .postgres("app"))
      nothing.artifacts = [:]
      #expect(await code { _ = try await repository.backUp(nothing, cadence: .daily, logger: quiet) } == .sourceFailed)

      // A writer that is kept is of no use once the capture has ended.
      let kept = MutableBox<(any BackupWriter)?>(nil)
      var keeping = MemorySource.sample(try .postgres("app"))
      keeping.afterwards = { writer in kept.withLock { $0 = writer } }
      let backup = try await repository.backUp(keeping, cadence: .daily, logger: quiet)
      let writer = try #require(kept.value)
      #expect(writer.backupID == backup.id)
      #expect(
        await code { try await writer.write("late", ByteStream(content), expectedLength: nil) } == .sourceFailed)
      #expect(try await repository.contents(backup) == keeping.artifacts)
    }
  }

  @Test("A cancelled backup leaves nothing, though its task is cancelled")
  func cancelled() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      let written = AsyncStream.makeStream(of: Void.self)
      var source = MemorySource.sample(try .postgres("app"))
      source.afterwards = { _ in
        written.continuation.finish()
        try await Task.sleep(for: .seconds(3600))
      }
      let waiting = source
      let task = Task { try await repository.backUp(waiting, cadence: .daily, encoding: smallFrames, logger: quiet) }
      for await _ in written.stream {}
      #expect(files(in: path).count == 3)
      task.cancel()
      await #expect(throws: CancellationError.self) { _ = try await task.value }
      #expect(files(in: path).isEmpty)
      #expect(everything(in: path) == [".dr-tier"])
    }
  }

  @Test("While a backup runs, its marker is refreshed")
  func heartbeat() async throws {
    struct Marker: Decodable {
      var started: String
      var alive: String
    }
    try await withLocalTier { tier, path in
      let clock = TestClock()
      let repository = Repository(
        tier: tier, layout: .byKind,
        now: {
          clock.advance(1)
          return clock.now()
        }, heartbeat: .milliseconds(5))
      var source = MemorySource.sample(try .postgres("app"))
      source.afterwards = { writer in
        try await withTimeLimit(.seconds(60), "a sign of life") {
          let key = try ObjectKey("postgres/metadata/\(writer.backupID).inprogress")
          while true {
            let marker = try JSONDecoder().decode(Marker.self, from: Data(try await tier.read(key).readableBytesView))
            if marker.alive > marker.started { return }
            try await Task.sleep(for: .milliseconds(2))
          }
        }
      }
      _ = try await repository.backUp(source, cadence: .daily, encoding: smallFrames, logger: quiet)
      #expect(files(in: path).count == 3)
    }
  }

  @Test("Artifacts that vanish or shrink before the commit keep it from happening")
  func vanishedArtifact() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      for damage in ["delete", "truncate"] {
        var source = MemorySource.sample(try .postgres("app"))
        source.afterwards = { writer in
          let key = try ObjectKey("postgres/daily/\(writer.backupID)/base.tar.zst")
          if damage == "delete" { try await tier.delete(key) } else { truncate("\(path)/\(key)", 1000) }
        }
        let error = await #expect(throws: DRError.self) {
          try await repository.backUp(source, cadence: .daily, logger: quiet)
        }
        #expect(error?.code == (damage == "delete" ? .objectNotFound : .corruptData))
        #expect(files(in: path).isEmpty)
      }
    }
  }

  @Test(
    "A flipped bit in any stored artifact is found, naming the object, and the frame and offset", arguments: [0, 1])
  func flipped(number: Int) async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      let source = MemorySource.sample(try .postgres("app"))
      let backup = try await repository.backUp(
        source, cadence: .daily, encoding: Self.encodings[number], logger: quiet)
      var random = TestData.Random(seed: 21)
      for artifact in backup.artifacts {
        let url = URL(fileURLWithPath: "\(path)/\(artifact.key)")
        let good = try Data(contentsOf: url)
        var located = 0
        for _ in 0..<40 {
          var bad = good
          let position = Int.random(in: 0..<good.count, using: &random)
          bad[position] ^= 1 << UInt8.random(in: 0...7, using: &random)
          try bad.write(to: url)
          let reader = repository.reader(for: backup)
          let error = await #expect(throws: DRError.self, "\(artifact.name) flipped at \(position)") {
            _ = try await reader.read(artifact).collect(limit: 1 << 30)
          }
          #expect(error?.object == artifact.key.rawValue)
          if let place = try error?.message.firstMatch(of: Regex("frame ([0-9]+), at offset ([0-9]+)")) {
            located += 1
            let offset = try #require(place.output[2].substring.flatMap { Int($0) })
            // A frame of random rows is never as large as it was raw.
            #expect((offset..<(offset + (64 << 10))).contains(position))
          }
        }
        #expect(located >= (artifact.name == "base.tar" ? 36 : 1), "\(artifact.name)")
        try good.write(to: url)
      }
      #expect(try await repository.contents(backup) == source.artifacts)
    }
  }

  @Test("A torn repository: an artifact that is missing, cut or longer is an error that names it")
  func torn() async throws {
    try await withLocalTier { tier, path in
      let repository = Repository(tier: tier)
      let source = MemorySource.sample(try .postgres("app"))
      let backup = try await repository.backUp(source, cadence: .daily, encoding: smallFrames, logger: quiet)
      let artifact = try backup.artifact("base.tar")
      let url = URL(fileURLWithPath: "\(path)/\(artifact.key)")
      let good = try Data(contentsOf: url)
      let reader = repository.reader(for: backup)
      for bad in [good.dropLast(1), good.dropLast(good.count / 2), Data(), good + Data([0]), good + good] {
        try bad.write(to: url)
        for range in [nil, 70_000..<Int64(70_010)] {
          let error = await #expect(throws: DRError.self, "\(bad.count) bytes of \(good.count)") {
            let stream =
              if let range { try await reader.read(artifact, range: range) } else { try await reader.read(artifact) }
            _ = try await stream.collect(limit: 1 << 30)
          }
          #expect(error?.object == artifact.key.rawValue)
        }
      }
      try FileManager.default.removeItem(at: url)
      for range in [nil, 70_000..<Int64(70_010)] {
        let error = await #expect(throws: DRError.self) {
          let stream =
            if let range { try await reader.read(artifact, range: range) } else { try await reader.read(artifact) }
          _ = try await stream.collect(limit: 1 << 30)
        }
        #expect(error?.code == .objectNotFound)
        #expect(error?.object == artifact.key.rawValue)
      }
    }
  }

  @Test("A deleted backup is gone, and the others are whole")
  func delete() async throws {
    try await withLocalTier { tier, path in
      let clock = TestClock()
      let repository = Repository(tier: tier, now: clock.now)
      let source = MemorySource.sample(try .postgres("app"))
      let first = try await repository.backUp(source, cadence: .daily, logger: quiet)
      clock.advance(60)
      let second = try await repository.backUp(source, cadence: .hourly, logger: quiet)
      try await repository.delete(first, logger: quiet)
      #expect(try await repository.catalog().backups == [second])
      #expect(!files(in: path).contains { $0.contains(first.id) })
      #expect(try await repository.contents(second) == source.artifacts)
      try await repository.delete(first, logger: quiet)
      var escaping = second
      escaping.id = "../daily"
      #expect(await code { try await repository.delete(escaping, logger: quiet) } == .invalidKey)
      #expect(try await repository.catalog().backups == [second])
    }
  }
}
