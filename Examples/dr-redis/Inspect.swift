import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import ExampleSupport
import Foundation

/// Reads an RDB file and says what is in it.
struct Inspect: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Reads an RDB file, or a backup's, to its end, checks it and says what it holds.",
    discussion: "Give a file, or --config and perhaps --backup.")

  @Argument(help: "An RDB file.", completion: .file(extensions: ["rdb"]))
  var file: String?

  @Option(help: "The configuration of a repository, to look into a backup.", completion: .file(extensions: ["json"]))
  var config: String?

  @Option(help: "The backup; the newest unless said.")
  var backup: String?

  @Option(parsing: .unconditional, help: "Of a cluster's backup: the shard, from 0.")
  var shard: Int?

  @Flag(help: "Look into every value too: what a server would end of when it loads it.")
  var values = false

  @Flag(help: "Write the summary as JSON.")
  var json = false

  func validate() throws {
    try allow("--shard", shard, 0...16_383)
    guard (file == nil) != (config == nil) else { throw ValidationError("give a file or --config") }
  }

  func run() async throws {
    try await reporting {
      let start = ContinuousClock.now
      let (content, object) = try await open()
      let summary = try await RDBSummary.reading(content, object: object, checksValues: values)
      let duration = start.duration(to: .now)
      if json {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(summary), as: UTF8.self))
      } else {
        show(summary, object, duration)
      }
    }
  }

  private func open() async throws -> (ByteStream, String) {
    if let file { return (try await RDBFile.open(file).content, file) }
    let settings = try RepositoryConfiguration(file: config ?? "")
    let repository = Repository(tier: try await settings.tier(creating: false, probing: .reading))
    let manifest = try await settings.redisBackup(backup, in: repository, for: .latest)
    if shard == nil, manifest.artifacts.contains(where: { $0.name == "dump-0.rdb" }) {
      throw DRError(
        .invalidConfiguration, "backup \(manifest.id) is of a cluster: it has a data set for each shard",
        advice: "say which one with --shard, from 0", component: manifest.component)
    }
    let artifact = try manifest.artifact(shard.map { "dump-\($0).rdb" } ?? "dump.rdb")
    let reader = repository.reader(for: manifest, decoding: try settings.decoding())
    return (try await reader.read(artifact), artifact.key.rawValue)
  }

  private func show(_ summary: RDBSummary, _ object: String, _ duration: Duration) {
    let rate = Double(summary.bytes) / max(duration / .seconds(1), 1e-9) / 1e9
    print(
      "\(object): version \(summary.version), \(Format.bytes(summary.bytes)), checksum \(summary.checksum.rawValue), read in "
        + "\(Format.duration(duration)), \(String(format: "%.2f", rate)) GB/s")
    for (name, value) in summary.aux.sorted(by: { $0.key < $1.key }) { print("  \(name) \(value)") }
    for (number, keys) in summary.keysPerDatabase.sorted(by: { $0.key < $1.key }) {
      print("database \(number): \(keys) keys, \(summary.expiriesPerDatabase[number] ?? 0) expire")
    }
    for (type, keys) in summary.keysByType.sorted(by: { $0.key < $1.key }) { print("\(type): \(keys) keys") }
    if summary.functions > 0 { print("\(summary.functions) function libraries") }
    if !summary.moduleNames.isEmpty { print("needs modules: \(summary.moduleNames.joined(separator: ", "))") }
    if summary.uncheckedValues > 0 { print("\(summary.uncheckedValues) values were too long to be looked into") }
    for key in summary.largestKeys {
      print("  \(Format.bytes(key.bytes))  \(key.type)  database \(key.database)  \(key.name)")
    }
  }
}
