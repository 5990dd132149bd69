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
}
