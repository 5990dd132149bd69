import ArgumentParser
import DRCore
import DRRabbitMQ
import DRStorage
import ExampleSupport

/// Lists the backups.
struct List: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Lists the backups and what they hold.")

  @OptionGroup var repository: RepositoryArguments

  @Flag(help: "Show each queue.")
  var queues = false

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let catalog = try await Repository(tier: try await settings.tier(creating: false, probing: .reading)).catalog(
        of: settings.component)
      for backup in catalog.backups {
        let records = RabbitMQQueueRecord.all(of: backup)
        print(
          "\(backup.id)  \(backup.cadence)  \(records.reduce(0) { $0 + $1.summary.messages }) messages of "
            + "\(records.count) queues  \(Format.bytes(backup.rawSize)) as \(Format.bytes(backup.storedSize))  "
            + "RabbitMQ \(backup.serverVersion ?? "?")  \(Timestamp.format(backup.recoveryPoint.time))"
            + (backup.parent.map { "  goes on from \($0)" } ?? ""))
        guard queues else { continue }
        for record in records {
          print(
            "  \(record.title)  \(record.type)  \(record.summary.messages) messages, "
              + "\(Format.bytes(record.summary.bodyBytes)), \(record.unacknowledged) held by consumers"
              + (record.isPart
                ? ", from offset \(record.fromOffset ?? 0) on: those before it are in \(backup.parent ?? "?")" : ""))
        }
      }
      if catalog.backups.isEmpty { print("no backups of \(settings.component)") }
      for broken in catalog.unreadable { print("UNREADABLE \(broken.id): \(broken.error)") }
      if !catalog.unreadable.isEmpty { throw ExitCode(1) }
    }
  }
}
