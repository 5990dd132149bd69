import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Processes that are killed at a random moment of their work.
///
/// `DR_KILLS` sets how many are killed on each kind of tier; `DR_SEED` repeats a run.
@Suite(.serialized) struct KilledProcessTests {
  private static let kills = ProcessInfo.processInfo.environment["DR_KILLS"].flatMap { Int($0) }
  private static let seed =
    ProcessInfo.processInfo.environment["DR_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0..<1_000_000)

  @Test(
    "Killed at a random moment of backup, replication and pruning, on local tiers: nothing that was committed is lost")
  func local() async throws {
    try await withTemporaryFolder { folder in
      let near = try await LocalTier(root: folder + "/near", creating: true)
      let far = try await LocalTier(root: folder + "/far", creating: true)
      try await Self.run(
        "local", near, far, places: (folder + "/near", folder + "/far"), environment: [:], kills: Self.kills ?? 24,
        output: folder + "/said")
    }
  }

  @Test("The same with both repositories in buckets")
  func s3() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await withTemporaryFolder { folder in
      try await server.withBucket { bucket in
        let near = try await S3Tier(server.configuration(bucket: bucket, prefix: "near"))
        let far = try await S3Tier(server.configuration(bucket: bucket, prefix: "far"))
        try await Self.run(
          "S3 (\(server))", near, far, places: ("s3://\(bucket)/near", "s3://\(bucket)/far"),
          environment: [
            "AWS_ENDPOINT_URL_S3": server.endpoint, "AWS_ACCESS_KEY_ID": server.credentials.accessKeyID,
            "AWS_SECRET_ACCESS_KEY": server.credentials.secretAccessKey, "AWS_REGION": "us-east-1",
          ], kills: Self.kills ?? 8, output: folder + "/said")
      }
    }
  }

  private static func run(
    _ kind: String, _ near: any StorageTier, _ far: any StorageTier, places: (near: String, far: String),
    environment: [String: String], kills: Int, output: String
  ) async throws {
    var random = TestData.Random(seed: seed)
    var (killed, ended, rounds) = (0, [String: Int](), 0)
    var typical: [String: Duration] = [:]
    var next: UInt64 = 1
    let context = Comment(rawValue: "\(kind), DR_SEED=\(seed)")

    func start(_ verb: String) throws -> ChildProcess {
      let arguments: [String]
      switch verb {
      case "backup":
        arguments = ["backup", "\(next)", places.near]
        next += 1
      case "replicate": arguments = ["replicate", places.near, places.far]
      default: arguments = ["prune", Bool.random(using: &random) ? places.near : places.far]
      }
      return try ChildProcess(
        ChildProcess.program("storage-worker"), arguments, environment: environment, output: output)
    }

    // How long each takes when it is left alone.
    for verb in ["backup", "backup", "replicate", "prune"] {
      let begun = ContinuousClock.now
      let process = try start(verb)
      #expect(try await process.wait() == 0, "\(verb): \(process.said), \(context)")
      typical[verb] = begun.duration(to: .now)
    }
    while killed < kills, rounds < kills * 6 {
      rounds += 1
      let verb = ["backup", "backup", "replicate", "prune"][Int.random(in: 0..<4, using: &random)]
      let delay = (typical[verb] ?? .zero) * Double.random(in: 0...1.1, using: &random)
      let process = try start(verb)
      try await Task.sleep(for: delay)
      process.signal(SIGKILL)
      let status = try await process.wait()
      if status == 128 + SIGKILL { killed += 1 } else { ended[verb, default: 0] += 1 }
      #expect(status == 128 + SIGKILL || status == 0, "\(verb): \(process.said), \(context)")
      try await check(near, context)
      try await check(far, context)

      // The next run cleans what was left: after it there is nothing but what is committed.
      if rounds % 6 == 0 {
        for verb in ["replicate", "prune"] {
          let process = try start(verb)
          #expect(try await process.wait() == 0, "\(verb) after a kill: \(process.said), \(context)")
        }
        for tier in [near, far] {
          try await Repository(tier: tier).cleanInterrupted(olderThan: .zero, logger: quiet)
          try await expectNothingElse(tier, context)
        }
      }
    }
    print("killed \(killed) processes on \(kind), \(ended.values.reduce(0, +)) were faster; DR_SEED=\(seed)")
    #expect(killed >= kills, context)
  }

  /// The catalog opens; every committed backup reads back as it was made, with the log that it needs.
  private static func check(_ tier: any StorageTier, _ context: Comment) async throws {
    let repository = Repository(tier: tier)
    let catalog = try await repository.catalog()
    #expect(catalog.unreadable.isEmpty, context)
    let store = try ChangeLogStore(
      tier: tier, component: .postgres("app"), systemIdentifier: "7301", group: { String($0.prefix(16)) })
    for backup in catalog.backups {
      let seed = UInt64(try #require(backup.properties["seed"]?.integer))
      let contents = try await repository.contents(backup)
      #expect(contents["base.tar"] == TestData.rows(700_000, seed: seed * 2), context)
      #expect(contents["backup_manifest"] == TestData.rows(9000, seed: seed * 2 + 1), context)
      for number in 0..<3 as Range<UInt64> {
        let segment = try await store.get(String(format: "0000000100000000%08X", Int(seed * 3 + number)))
        #expect(segment == TestData.rows(60_000, seed: seed * 3 + number), context)
      }
    }
  }

  private static func expectNothingElse(_ tier: any StorageTier, _ context: Comment) async throws {
    let catalog = try await Repository(tier: tier).catalog()
    var known = Set(catalog.backups.flatMap { $0.artifacts.map(\.key.rawValue) })
    known.formUnion(catalog.backups.map { "postgres/metadata/\($0.id).json" })
    let others = try await tier.keys().filter { key in
      !known.contains(key)
        && !["postgres/wal/", "postgres/prune/", "postgres/replicas/", "leases/"].contains { key.hasPrefix($0) }
    }
    #expect(others.isEmpty, "\(others), \(context)")
  }
}
