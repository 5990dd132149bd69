import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import ExampleSupport
import Foundation

/// Puts a backup where a stopped server will load it.
struct RestoreFile: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Puts a backup where a stopped server will load it; with append-only files as their base.",
    discussion: "What was there is kept beside, as ….before-<time>.")

  @OptionGroup var repository: RepositoryArguments

  @Option(help: "The server's data folder ('dir').")
  var to: String?

  @Option(help: "The server's redis.conf: it says where the data is, and whether append-only files are on.")
  var serverConfig: String?

  @Option(help: "appendonly: yes or no. A server with yes loads nothing else, one with no ignores it.")
  var appendOnly: AppendOnly?

  @Option(help: "The backup; the newest that reaches the target unless said.")
  var backup: String?

  @Option(parsing: .unconditional, help: "Of a cluster's backup: which shard this node is to hold, from 0.")
  var shard: Int?

  @OptionGroup var target: TargetArguments

  @Option(help: "Who owns the files, when root restores.")
  var owner: String?

  enum AppendOnly: String, ExpressibleByArgument, CaseIterable { case yes, no }

  func validate() throws {
    try allow("--shard", shard, 0...16_383)
    guard (serverConfig != nil) || (to != nil && appendOnly != nil) else {
      throw ValidationError("give --server-config, or --to and --append-only")
    }
  }

  func run() async throws {
    try await repository.audited("restore", object: to ?? serverConfig) { _ in
      try await endingInGoodOrder(saying: "nothing was restored") { try await restore() }
    }
  }

  private func restore() async throws {
    let settings = try repository.settings()
    let source = try await settings.restoreSource()
    let tier = source.repository.tier
    let target = try target.target()
    let manifest = try await source.backup { try await settings.redisBackup(backup, in: $0, for: target) }
    let layout = try layout()
    try settings.refuseDestination(to ?? layout.folder, config: self.repository.config)
    var restorer = RedisFileRestorer(layout: layout, owner: owner, progress: ProgressBar("restore").handler)
    restorer.archive = try settings.archive(tier)
    restorer.shard = shard
    let report = try await restorer.restoreFiles(
      from: try await source.reader(for: manifest, logger: self.repository.logger), to: target,
      logger: self.repository.logger)
    print(
      "\(manifest.id) restored to \(restorer.layout.folder): \(report.summary.keys) keys"
        + (report.commands > 0 ? ", \(report.commands) changes up to offset \(report.position ?? "?")" : "")
        + ", \(Format.bytes(report.outcome.bytes)) in \(Format.duration(report.outcome.duration)). Start the server.")
    for path in report.movedAside { print("kept: \(path)") }
  }

  private func layout() throws -> RedisDataLayout {
    var layout =
      if let serverConfig {
        try RedisDataLayout(configurationFile: serverConfig)
      } else {
        RedisDataLayout(folder: "", appendOnly: .off)
      }
    if let to { layout.folder = URL(fileURLWithPath: to).path }
    if let appendOnly { layout.appendOnly = appendOnly == .yes ? .folder : .off }
    return layout
  }
}
