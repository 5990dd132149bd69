import DRCore
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import NIOCore

/// A process to be killed: it works on repositories as the library's users do, and dies wherever it is told to.
///
///     storage-worker backup SEED TIER        one backup of made-up bytes, and a few segments
///     storage-worker replicate TIER TIER
///     storage-worker prune TIER              keeps the newest two, without a grace period
@main
struct StorageWorker {
  static func main() async {
    do {
      let arguments = Array(CommandLine.arguments.dropFirst())
      guard let verb = arguments.first else { throw DRError(.invalidConfiguration, "no verb") }
      try await run(verb, Array(arguments.dropFirst()))
    } catch {
      FileHandle.standardError.write(Data("\(error)\n".utf8))
      exit(2)
    }
  }

  private static func run(_ verb: String, _ arguments: [String]) async throws {
    let logger = Logger(label: "worker", factory: { _ in SwiftLogNoOpLogHandler() })
    func repository(_ place: String) async throws -> Repository {
      Repository(tier: try await TierPlace.open(place, creating: false))
    }
    switch (verb, arguments.count) {
    case ("backup", 2):
      guard let seed = UInt64(arguments[0]) else { throw DRError(.invalidConfiguration, "no seed") }
      let repository = try await repository(arguments[1])
      let component = try Component(.postgres, "app")
      let log = try ChangeLogStore(
        tier: repository.tier, component: component, systemIdentifier: "7301", group: { String($0.prefix(16)) })
      _ = try await repository.backUp(
        SeededSource(component: component, seed: seed, log: log), cadence: .daily,
        encoding: Encoding(frameSize: 64 << 10),
        logger: logger)
    case ("replicate", 2):
      let outcome = try await Replicator(
        from: try await repository(arguments[0]), to: try await repository(arguments[1])
      )
      .run(logger: logger)
      if let failure = outcome.failures.values.first { throw failure }
    case ("prune", 1):
      let repository = try await repository(arguments[0])
      // Short, so that the next one need not wait long for a killed one's; a loaded server answers no faster than this.
      let life: Duration = TierPlace.isBucket(arguments[0]) ? .seconds(3) : .milliseconds(500)
      let settings = Lease.Settings(life: life, patience: .seconds(60))
      try await Lease.with("prune", on: repository.tier, settings, logger: logger) { lease in
        _ = try await repository.prune(
          RetentionPolicy([.newest(2)]), changeLogs: [ChangeLogRule(log: "wal", margin: .milliseconds(100))],
          grace: .zero, lease: lease, logger: logger)
      }
      try await repository.cleanInterrupted(olderThan: .zero, logger: logger)
    default: throw DRError(.invalidConfiguration, "not a verb of this program")
    }
  }
}

/// Bytes that its seed makes, so that whoever reads them back knows what they were.
private struct SeededSource: BackupSource {
  let component: Component
  let seed: UInt64
  let log: ChangeLogStore

  func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    // What the backup needs of the log, while it runs.
    for number in 0..<3 {
      let name = String(format: "0000000100000000%08X", Int(seed) * 3 + number)
      _ = try await log.put(name, TestData.rows(60_000, seed: seed * 3 + UInt64(number)))
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (number, name) in ["base.tar", "backup_manifest"].enumerated() {
        let content = TestData.rows(number == 0 ? 700_000 : 9000, seed: seed * 2 + UInt64(number))
        group.addTask {
          try await writer.write(
            name, ByteStream(TestData.pieces(of: content, upTo: 90_000)), expectedLength: Int64(content.readableBytes))
        }
      }
      try await group.waitForAll()
    }
    return Capture(
      recoveryPoint: RecoveryPoint(time: Date(), position: "0/\(seed)", history: "1"), method: .basebackup,
      systemIdentifier: "7301", properties: ["seed": .integer(Int64(seed))])
  }
}
