import ArgumentParser
import DRCore
import DRRabbitMQ
import DRStorage
import ExampleSupport
import Foundation
import NIOCore

/// Writes the messages of a queue as JSON lines.
struct Export: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes the messages of a queue in a backup as JSON lines, on standard output.",
    discussion: """
      The first line tells of the queue, the last one how many messages there are. A body that is no UTF-8 is bodyBase64; any other text \
      that is none (a property, the routing key, a header) is {"base64": "…"}. Headers name their types. A table in which a name is there \
      twice, or is no UTF-8, is a list of pairs: [["a", {"int32": 1}], ["a", {"int32": 2}]]. Properties with headers that are nested more \
      than 64 deep are propertiesBase64: as AMQP encodes them.
      """)

  @OptionGroup var repository: RepositoryArguments

  @Argument(help: "The queue: its vhost and name, as in //orders.")
  var queue: String

  @Option(help: "The backup; the newest unless said.")
  var backup: String?

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let repository = Repository(tier: try await settings.tier(creating: false, probing: .reading))
      let manifest = try await self.repository.backup(backup, in: repository, holding: "queues")
      guard let record = RabbitMQQueueRecord.all(of: manifest).first(where: { $0.title.exact == queue.exact }) else {
        throw DRError(
          .invalidConfiguration, "backup \(manifest.id) holds no queue '\(queue.prefix(100))'",
          advice: "dr-rabbitmq list --queues shows them")
      }
      if record.isPart {
        // Not among the lines, which may be read by a program.
        let line =
          "warning: this is the stream from offset \(record.fromOffset ?? 0) on; what came before is in \(manifest.parent ?? "?"): "
          + "export --backup \(manifest.parent ?? "") writes it\n"
        FileHandle.standardError.write(Data(line.utf8))
      }
      let reader = repository.reader(for: manifest, decoding: try settings.decoding())
      let artifact = try manifest.artifact(record.artifact)
      try await MessageArchiveReader.read(try await reader.read(artifact), object: artifact.name) { event in
        try FileHandle.standardOutput.write(contentsOf: Data(MessageJSON.line(event).readableBytesView))
      }
    }
  }
}
