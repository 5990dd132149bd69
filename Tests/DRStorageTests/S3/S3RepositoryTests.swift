import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// A repository in a bucket.
struct S3RepositoryTests {
  @Test(
    "A backup is committed, found, read back and removed",
    arguments: [S3TestServer.Kind.ceph, .moto])
  func backUp(kind: S3TestServer.Kind) async throws {
    try await S3TestServer.shared(kind).withTier { tier in
      let repository = Repository(tier: tier)
      let component = try Component.postgres("app")
      let source = MemorySource.sample(component)
      let manifest = try await repository.backUp(source, cadence: .daily, encoding: smallFrames, logger: quiet)
      let catalog = try await repository.catalog(of: component)
      #expect(catalog.backups == [manifest] && catalog.unreadable.isEmpty)
      #expect(try await repository.contents(manifest) == source.artifacts)
      let artifact = try #require(manifest.artifacts.first { $0.name == "base.tar" })
      let part = try await repository.reader(for: manifest).read(artifact, range: 70_000..<200_000)
      #expect(
        try await part.collect(limit: 1 << 20) == source.artifacts["base.tar"]?.getSlice(at: 70_000, length: 130_000))
      try await repository.delete(manifest, logger: quiet)
      #expect(try await tier.keys().isEmpty)
    }
  }

  @Test("Without conditional put a backup is refused, unless its user promises to be the only writer")
  func soleWriter() async throws {
    try await S3TestServer.shared(.swift).withTier { tier in
      let component = try Component.postgres("app")
      let source = MemorySource.sample(component)
      #expect(
        await code { _ = try await Repository(tier: tier).backUp(source, cadence: .daily, logger: quiet) }
          == .unsupported)
      #expect(try await tier.keys().isEmpty)

      let repository = Repository(tier: SoleWriterTier(tier))
      var ids: [String] = []
      for _ in 0..<3 {
        ids.append(try await repository.backUp(source, cadence: .daily, encoding: smallFrames, logger: quiet).id)
      }
      #expect(Set(ids).count == 3)
      // The server's times are rounded up to the second: a mark may be younger than it is old.
      for _ in 0..<10 {
        if try await repository.catalog().backups.count == 1 { break }
        try await Task.sleep(for: .milliseconds(400))
        try await Lease.with("prune", on: repository.tier, logger: quiet) { lease in
          _ = try await repository.prune(RetentionPolicy([.newest(1)]), grace: .zero, lease: lease, logger: quiet)
        }
      }
      let catalog = try await repository.catalog()
      #expect(catalog.backups.map(\.id) == [ids[2]] && catalog.unreadable.isEmpty)
      // Who only reads needs to promise nothing.
      let found = try #require(catalog.backups.first)
      #expect(try await Repository(tier: tier).contents(found) == source.artifacts)
      #expect(try await repository.cleanInterrupted(olderThan: .zero, logger: quiet).backups.isEmpty)
    }
  }
}
