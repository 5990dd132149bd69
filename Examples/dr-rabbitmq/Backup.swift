import ArgumentParser
import DRCore
import DRRabbitMQ
import DRStorage
import ExampleSupport

/// Takes a backup.
struct Backup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Captures definitions, and the messages of queues without taking them.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var broker: BrokerArguments
  @OptionGroup var queues: QueueArguments

  @Option(help: "Where the backup lies in the tree: hourly, daily, weekly or monthly.")
  var cadence = "daily"

  @Flag(help: "Only definitions, no messages.")
  var definitionsOnly = false

  @Option(help: "A rabbitmq.conf to keep with them.")
  var configurationFile: String?

  @Flag(help: "Store passwords that stand in clear in definitions, though the backup is not encrypted.")
  var allowClearSecrets = false

  @Flag(help: "Leave out queues that a dump could harm, rather than fail.")
  var leaveOutRefused = false

  @Option(
    name: .customLong("override"),
    help: "Dump in spite of this refusal: see its name in the error. May be given several times.")
  var overrides: [String] = []

  @Flag(help: "Of streams, only what came since the last backup. A restore finds the rest by itself.")
  var incrementalStreams = false

  @Flag(help: "Go on although the last backup is of another cluster: after a rebuild, or a new one in its place.")
  var newCluster = false

  @Option(help: "Backups that may hang together by --incremental-streams; the next one is whole.")
  var chainLimit = 24

  func validate() throws {
    guard !definitionsOnly || (queues.patterns.isEmpty && queues.types.isEmpty && !queues.includeTransient) else {
      throw ValidationError(
        "--queue, --type and --include-transient choose messages: not with --definitions-only, which takes the definitions of all "
          + "queues, or of those of a --vhost")
    }
    try allow("--chain-limit", chainLimit, 1...1000)
    _ = try usage { (try Cadence(parsing: cadence), try parsedOverrides()) }
  }

  func run() async throws {
    try await repository.audited("backup") { line in
      let manifest = try await endingInGoodOrder(saying: "nothing was committed") { try await backUp() }
      line.concerns(manifest.id)
      let records = RabbitMQQueueRecord.all(of: manifest)
      print(
        "\(manifest.id) committed: \(records.reduce(0) { $0 + $1.summary.messages }) messages of \(records.count) queues, "
          + "\(Format.bytes(manifest.rawSize)) stored as \(Format.bytes(manifest.storedSize))")
      for omission in manifest.leftOut { print("left out: \(omission.what): \(omission.reason)") }
      let harmed = records.filter { $0.harm != nil }
      for record in harmed {
        print(
          "failure queue-as-before \(record.title): \(record.harm ?? ""): its messages are in the backup; see whether somebody took them "
            + "meanwhile, or bring them back with dr-rabbitmq restore --queue")
      }
      guard harmed.isEmpty else { throw ExitCode(1) }
    }
  }

  private func backUp() async throws -> BackupManifest {
    let settings = try repository.settings()
    try settings.warnOfPlaintext()
    let connection = try broker.settings()
    let store = Repository(tier: try await settings.tier(creating: false))
    if !newCluster { try await refuseOtherCluster(store, connection, settings.component) }
    var definitions = RabbitMQDefinitionsSource(component: settings.component, broker: connection)
    definitions.vhosts = queues.vhosts.isEmpty ? nil : queues.vhosts
    definitions.configurationFile = configurationFile
    definitions.allowsClearSecrets = allowClearSecrets
    var source = RabbitMQMessageSource(
      component: settings.component, broker: connection, queues: try queues.selection())
    source.definitions = definitions
    source.tier = store.tier
    source.refused = leaveOutRefused ? .leaveOut : .fail
    source.overrides = try parsedOverrides()
    source.progress = ProgressBar("backup").handler
    if incrementalStreams {
      source.since = try await store.catalog(of: settings.component).backups
        .newestToGoOnFrom(limit: chainLimit) { $0.properties["queues"] != nil }
    }
    let chosen: any BackupSource = definitionsOnly ? definitions : source
    return try await store.backUp(
      chosen, cadence: try Cadence(parsing: cadence), encoding: try settings.encoding(), logger: repository.logger)
  }

  /// Two clusters in one component would pass for one: a restore takes the newest.
  private func refuseOtherCluster(
    _ store: Repository, _ connection: RabbitMQSettings, _ component: Component
  ) async throws {
    let catalog = try await store.catalog(of: component)
    guard let last = catalog.backups.filter({ $0.systemIdentifier != nil }).max(by: { $0.ended < $1.ended }) else {
      return
    }
    let api = ManagementAPI(connection)
    let facts = try await BrokerFacts(api, definitions: try await api.get("definitions"))
    guard let known = last.systemIdentifier, known != facts.identifier else { return }
    throw DRError(
      .invalidConfiguration,
      "the broker is the cluster \(facts.identifier), and the last backup \(last.id) is of the cluster \(known)",
      advice:
        "back another cluster up as a component of its own, or say --new-cluster if it takes the place of the former",
      component: component)
  }

  private func parsedOverrides() throws -> Set<DumpRefusal> {
    Set(try overrides.map { try DumpRefusal.override($0) })
  }
}
