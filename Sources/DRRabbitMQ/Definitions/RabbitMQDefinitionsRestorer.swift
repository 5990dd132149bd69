public import DRCore
import Foundation
public import Logging
import NIOCore

/// Brings definitions back to a broker, and proves it: validate, order, import, export again, compare.
///
/// The broker's own import merges, keeps what is there under other arguments, skips what it does not like and answers with
/// success. So silence is never success here: what is not as the backup says it is a finding, and ``restore(from:to:logger:)``
/// throws if one of them is a failure.
public struct RabbitMQDefinitionsRestorer: Restorer {
  public enum Mode: Sendable, Hashable {
    /// What only the broker has stays, and is reported.
    case merge
    /// What only the broker has is removed; a queue only if it is empty. Of chosen vhosts, or of a backup of some vhosts, only what is in
    /// them: neither users, who may be others' too, nor global parameters. Nothing is removed before every byte of the backup was read.
    case exact
  }

  /// What a restore did, or would do.
  public struct Report: Sendable {
    public var diff: RabbitMQDefinitionsDiff
    public var findings: [Finding]
    public var duration: Duration
    public var hasFailures: Bool { findings.contains { $0.severity == .failure } }
  }

  public var broker: RabbitMQSettings
  public var mode: Mode
  /// Nil: all of the backup.
  public var vhosts: [String]?
  /// Only these queues, and what they need: see RABBITMQ.md; nil: all. Not with ``Mode/exact``.
  public var queues: RabbitMQQueueSelection?
  /// Leave out what makes a broker connect to others by itself (shovels, federation upstreams): for a throw-away broker.
  public var isHarmless = false

  public init(broker: RabbitMQSettings, mode: Mode = .merge, vhosts: [String]? = nil) {
    self.broker = broker
    self.mode = mode
    self.vhosts = vhosts
  }

  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    let report = try await run(from: reader, logger: logger)
    if report.hasFailures {
      let failures = report.findings.filter { $0.severity == .failure }
      throw DRError(
        .sourceFailed,
        "the broker did not take all definitions: "
          + failures.prefix(5).map { "\($0.subject): \($0.evidence)" }.joined(separator: "; "),
        advice: "see every finding with a plan of this restore", component: reader.manifest.component)
    }
    let items = report.diff.entries(.add).count + report.diff.entries(.change).count
    return RestoreOutcome(
      bytes: try reader.manifest.artifact("definitions.json").rawSize, items: items, duration: report.duration)
  }

  /// Says what a restore would do, and changes nothing.
  ///
  /// - Throws: ``DRError``: what the reader or the broker says; `malformedData`.
  public func plan(from reader: any BackupReader, logger: Logger) async throws -> Report {
    try await locatingErrors(of: reader.manifest.component) {
      let start = ContinuousClock.now
      let work = try await prepare(reader)
      return Report(diff: work.diff, findings: work.findings, duration: start.duration(to: .now))
    }
  }

  /// Restores, and says what became of everything.
  ///
  /// - Throws: ``DRError``: `destinationInUse` if a queue or an exchange is there with other arguments, before anything is
  ///   changed; what the reader or the broker says.
  public func run(from reader: any BackupReader, logger: Logger) async throws -> Report {
    try await locatingErrors(of: reader.manifest.component) {
      let start = ContinuousClock.now
      let work = try await prepare(reader)
      let blocking = work.findings.filter { $0.severity == .failure }
      guard blocking.isEmpty else {
        throw DRError(
          .destinationInUse,
          "the broker cannot take these definitions: "
            + blocking.prefix(5).map { "\($0.subject): \($0.evidence)" }.joined(separator: "; "),
          advice: Self.advice(blocking))
      }
      let api = ManagementAPI(broker)
      let extras = work.diff.entries(.extra)
      if mode == .exact, !extras.isEmpty {
        try await verify(reader, logger)
        try await remove(extras, work.present, api, logger)
      }
      try await importDefinitions(work.wanted, work.facts, api)
      let after = try await present(api, wanted: work.wanted, of: work.scope)
      let left = RabbitMQDefinitionsDiff(wanted: work.wanted, present: after)
      logger.info("definitions imported", metadata: ["rabbitmq.same": "\(left.same)"])
      return Report(
        diff: work.diff, findings: work.findings.filter { $0.severity != .passed } + compared(left),
        duration: start.duration(to: .now))
    }
  }

  /// What each of them advises, once.
  private static func advice(_ findings: [Finding]) -> String {
    var seen: Set<String> = []
    let all = findings.compactMap(\.advice).filter { seen.insert($0).inserted }
    return all.isEmpty ? "remove what is in the way, or restore to another broker" : all.joined(separator: "; ")
  }

  /// What was removed for a backup that is damaged would be gone for nothing.
  private func verify(_ reader: any BackupReader, _ logger: Logger) async throws {
    for link in try await reader.chain() {
      for artifact in link.manifest.artifacts { try await link.verify(artifact) }
    }
    logger.debug("the backup was read and is whole", metadata: ["backup.id": "\(reader.manifest.id)"])
  }

  // MARK: Before

  private struct Work {
    /// The vhosts that it is about; nil: the whole broker.
    var scope: [String]?
    var wanted: RabbitMQDefinitions
    var present: RabbitMQDefinitions
    var facts: BrokerFacts
    var diff: RabbitMQDefinitionsDiff
    var findings: [Finding]
  }

  private func prepare(_ reader: any BackupReader) async throws -> Work {
    let manifest = reader.manifest
    var wanted = try await RabbitMQDefinitions.read(from: reader)
    if let vhosts {
      let known = Set(wanted[.vhosts].compactMap { $0.vhost?.exact })
      if let unknown = vhosts.first(where: { !known.contains($0.exact) }) {
        throw RabbitMQMessageRestorer.unknownVHost(unknown, in: manifest)
      }
      wanted = wanted.only(vhosts)
    }
    let facts = try BrokerFacts(
      decoding: try await reader.read(manifest.artifact("broker.json")).collect(limit: 64 << 20, object: "broker.json"))
    // A backup of some vhosts says nothing of the others, nor of who may use them.
    let captured = Set(wanted[.vhosts].compactMap { $0.vhost?.exact })
    let isPartial = !Set(facts.vhosts.map(\.name.exact)).isSubset(of: captured)
    let scope = vhosts ?? (isPartial ? wanted[.vhosts].compactMap(\.vhost) : nil)
    if let queues {
      guard mode == .merge else {
        throw DRError(.invalidConfiguration, "chosen queues are merged with what is there, never exact")
      }
      for pattern in queues.patterns ?? [] {
        var one = queues
        one.patterns = [pattern]
        guard wanted.only(one, for: broker.user)[.queues].isEmpty else { continue }
        throw DRError(
          .invalidConfiguration, "the backup's definitions hold no such queue as '\(pattern.prefix(100))'",
          advice: "list --queues shows those that the backup holds", component: manifest.component)
      }
      wanted = wanted.only(queues, for: broker.user)
      if wanted[.queues].isEmpty {
        throw DRError(
          .invalidConfiguration,
          "the backup's definitions hold no such queue",
          advice: "list --queues shows those that the backup holds", component: manifest.component)
      }
    }
    let api = ManagementAPI(broker)
    var findings: [Finding] = []
    if isHarmless { leaveOutConnections(&wanted, &findings) }
    let present = try await self.present(api, wanted: wanted, of: scope)
    keepOwnUser(&wanted, present, &findings)
    // The name of the cluster is the cluster's own.
    wanted.items[.globalParameters]?.removeAll { $0["name"] == "cluster_name" }
    let diff = RabbitMQDefinitionsDiff(wanted: wanted, present: present)
    findings += diff.entries(.conflict).map { entry in
      Finding(
        "definitions-conflict", .failure, subject: "\(entry.kind.rawValue) \(entry.name)",
        evidence: "it is there and is another: \(entry.detail)",
        advice: "remove it, with what is in it, or restore to another broker")
    }
    findings += try await obstacles(wanted, facts, api)
    return Work(scope: scope, wanted: wanted, present: present, facts: facts, diff: diff, findings: findings)
  }

  /// What the broker has of what this restore is about.
  private func present(
    _ api: ManagementAPI, wanted: RabbitMQDefinitions, of scope: [String]?
  ) async throws -> RabbitMQDefinitions {
    let all = try RabbitMQDefinitions(try await api.get("definitions"))
    var present = all
    if let scope {
      present = all.only(scope)
      // A user of these vhosts may be one of others too, or of none yet: his permissions here are extra, he is not.
      let names = Set(wanted[.users].map(\.name.exact))
      present.items[.users] = all[.users].filter { names.contains($0.name.exact) }
    }
    present.items[.globalParameters]?.removeAll { $0["name"] == "cluster_name" }
    // What is left out is neither made nor taken away.
    if isHarmless { present.items[.parameters]?.removeAll(where: Self.connects) }
    if mode == .exact, !wanted[.users].contains(where: isOwn) {
      // Whoever restores, and is not in the backup, needs his rights to the end.
      present.items[.users]?.removeAll(where: isOwn)
      for kind in [RabbitMQDefinitions.Kind.permissions, .topicPermissions] {
        present.items[kind]?.removeAll { $0["user"]?.string?.exact == broker.user.exact }
      }
    }
    if queues != nil {
      // Nothing else is this restore's matter.
      for kind in RabbitMQDefinitions.Kind.allCases {
        let names = Set(wanted[kind].map(\.name.exact))
        present.items[kind]?.removeAll { !names.contains($0.name.exact) }
      }
    }
    return present
  }

  /// A restore that changed its own user's password would lock itself out half way.
  private func keepOwnUser(
    _ wanted: inout RabbitMQDefinitions, _ present: RabbitMQDefinitions, _ findings: inout [Finding]
  ) {
    guard let mine = wanted[.users].first(where: isOwn), let there = present[.users].first(where: isOwn), mine != there
    else { return }
    wanted.items[.users] = wanted[.users].map { isOwn($0) ? there : $0 }
    findings.append(
      Finding(
        "definitions-own-user", .notice, subject: broker.user,
        evidence: "the user that restores keeps the password and tags that it has on this broker",
        advice: "change them by hand afterwards if they should be the backup's"))
  }

  private func isOwn(_ user: RabbitMQDefinitions.Item) -> Bool { user["name"]?.string?.exact == broker.user.exact }

  /// Whether a parameter makes the broker connect to others.
  private static func connects(_ parameter: RabbitMQDefinitions.Item) -> Bool {
    ["shovel", "federation-upstream", "federation-upstream-set"].contains(parameter["component"]?.string)
  }

  private func leaveOutConnections(_ wanted: inout RabbitMQDefinitions, _ findings: inout [Finding]) {
    let left = wanted[.parameters].filter(Self.connects)
    guard !left.isEmpty else { return }
    wanted.items[.parameters]?.removeAll { left.contains($0) }
    findings.append(
      Finding(
        "definitions-harmless", .notice, subject: "parameters",
        evidence: "left out, so that this broker connects to nobody: " + left.map(\.name).joined(separator: ", ")))
  }

  /// What this broker could not take, and would not say so.
  private func obstacles(
    _ wanted: RabbitMQDefinitions, _ facts: BrokerFacts, _ api: ManagementAPI
  ) async throws -> [Finding] {
    let target = try await BrokerFacts(api)
    var findings: [Finding] = []
    let types = Set(target.exchangeTypes)
    for exchange in wanted[.exchanges] {
      guard let type = exchange["type"]?.string, !types.contains(type) else { continue }
      findings.append(
        Finding(
          "definitions-plugins", .failure, subject: "exchanges \(exchange.name)",
          evidence: "the broker has no exchange type '\(type)'",
          advice: "enable its plugin; the backup's broker had: "
            + Set(facts.nodes.flatMap(\.enabledPlugins)).subtracting(target.nodes.flatMap(\.enabledPlugins)).sorted()
            .joined(separator: ", ")))
    }
    findings += pluginObstacles(wanted, target)
    findings += try await flagObstacles(wanted, facts, target, api)
    let missing = Set(facts.nodes.flatMap(\.enabledPlugins)).subtracting(target.nodes.flatMap(\.enabledPlugins))
    if !missing.isEmpty {
      findings.append(
        Finding(
          "definitions-plugins", .warning, subject: "plugins",
          evidence: "enabled when the backup was taken, and not here: \(missing.sorted().joined(separator: ", "))",
          advice: "rabbitmq-plugins enable \(missing.sorted().joined(separator: " "))"))
    }
    let (had, has) = (facts.nodes.filter(\.running).count, target.nodes.filter(\.running).count)
    if has < had {
      findings.append(
        Finding(
          "definitions-cluster-size", .warning, subject: "cluster",
          evidence: "\(has) nodes run here and \(had) ran when the backup was taken: quorum queues get fewer members",
          advice: "let the other nodes join first, or grow the queues afterwards: rabbitmq-queues grow"))
    }
    return findings
  }

  /// What the broker would leave out without a word, or refuse half way, for a feature flag that is off.
  ///
  /// Flags that became a part of the broker are not listed any more by later versions.
  private func flagObstacles(
    _ wanted: RabbitMQDefinitions, _ facts: BrokerFacts, _ target: BrokerFacts, _ api: ManagementAPI
  ) async throws -> [Finding] {
    let listed = (try await api.get("feature-flags").array ?? []).compactMap { $0.object?["name"]?.string }
    let off = Set(listed).subtracting(target.featureFlags)
    var findings: [Finding] = []
    func need(_ flag: String, _ what: String, _ names: [String]) {
      guard off.contains(flag), let first = names.first else { return }
      findings.append(
        Finding(
          "definitions-feature-flags", .failure, subject: "\(what) \(first)",
          evidence: "the broker's feature flag \(flag) is off, and \(names.count) of the \(what) need it",
          advice: "rabbitmqctl enable_feature_flag \(flag)"))
    }
    for (type, flag) in [("quorum", "quorum_queue"), ("stream", "stream_queue")] {
      let queues = wanted[.queues].filter { $0["arguments"]?.object?["x-queue-type"]?.string == type }
      need(flag, "queues", queues.map(\.name))
    }
    need(
      "user_limits", "users", wanted[.users].filter { $0["limits"]?.object?.isEmpty == false }.map(\.name))
    let described = facts.vhosts.filter { vhost in
      !Self.description(of: vhost).isEmpty && wanted[.vhosts].contains { $0.vhost?.exact == vhost.name.exact }
    }
    need("virtual_host_metadata", "vhosts", described.map(\.name))
    let others = off.intersection(facts.featureFlags).subtracting(
      findings.compactMap { $0.advice?.split(separator: " ").last.map(String.init) })
    if !others.isEmpty {
      findings.append(
        Finding(
          "definitions-feature-flags", .warning, subject: "feature flags",
          evidence: "enabled when the backup was taken, and not here: \(others.sorted().joined(separator: ", "))",
          advice: others.sorted().map { "rabbitmqctl enable_feature_flag \($0)" }.joined(separator: "; ")))
    }
    return findings
  }

  /// What an import would stop at half way, for the plugin that knows it is not enabled here.
  private func pluginObstacles(_ wanted: RabbitMQDefinitions, _ target: BrokerFacts) -> [Finding] {
    let enabled = Set(target.nodes.flatMap(\.enabledPlugins))
    // A broker that does not say which it has is not judged by it.
    guard !enabled.isEmpty else { return [] }
    func obstacle(_ feature: String, _ items: [RabbitMQDefinitions.Item], _ more: String) -> [Finding] {
      // What was enabled by its name alone is told of: rabbitmq_shovel comes with rabbitmq_shovel_management too.
      guard !enabled.contains(where: { $0.contains(feature) }), let first = items.first else { return [] }
      let plugin = "rabbitmq_\(feature)"
      return [
        Finding(
          "definitions-plugins", .failure, subject: "\(first.kind.rawValue) \(first.name)",
          evidence: "\(items.count) of the \(first.kind.rawValue) need the plugin \(plugin), which is not enabled here",
          advice: "rabbitmq-plugins enable \(plugin), and wait some seconds until the broker says so\(more)")
      ]
    }
    func parameters(_ prefix: String) -> [RabbitMQDefinitions.Item] {
      wanted[.parameters].filter { $0["component"]?.string?.hasPrefix(prefix) ?? false }
    }
    let federating = wanted[.policies].filter { policy in
      policy["definition"]?.object?.keys.contains { $0.hasPrefix("federation-upstream") } ?? false
    }
    let harmless = "; or leave shovels and federation upstreams out (--harmless)"
    return obstacle("shovel", parameters("shovel"), harmless)
      + obstacle("federation", parameters("federation-upstream"), harmless)
      + obstacle("federation", federating, "")
  }

  // MARK: The import

  private func importDefinitions(
    _ wanted: RabbitMQDefinitions, _ facts: BrokerFacts, _ api: ManagementAPI
  ) async throws {
    try await describeVHosts(wanted, facts, api)
    for kind in RabbitMQDefinitions.Kind.allCases {
      // The broker refuses bodies of more than 20 MB, and a bad one is found sooner in a small piece.
      for start in stride(from: 0, to: wanted[kind].count, by: 2000) {
        let slice = wanted[kind][start..<min(start + 2000, wanted[kind].count)]
        var body = wanted.others
        body[kind.rawValue] = .array(slice.map { .object($0.members) })
        do {
          try await api.post("definitions", .object(body))
        } catch var error as DRError where error.rabbitMQCode == 400 {
          error.message = "the broker refuses one of the \(kind.rawValue), and kept those before it"
          error.advice = "see the cause; mend it there, and restore again: what is there already is no obstacle"
          throw error
        }
      }
    }
    // Some versions take an imported vhost for one without a description.
    try await describeVHosts(wanted, facts, api)
  }

  /// What definitions do not carry of a vhost.
  private func describeVHosts(
    _ wanted: RabbitMQDefinitions, _ facts: BrokerFacts, _ api: ManagementAPI
  ) async throws {
    for vhost in facts.vhosts where wanted[.vhosts].contains(where: { $0.vhost?.exact == vhost.name.exact }) {
      let body = Self.description(of: vhost)
      guard !body.isEmpty else { continue }
      try await api.put("vhosts/\(ManagementAPI.escape(vhost.name))", .object(body))
    }
  }

  private static func description(of vhost: BrokerFacts.VHost) -> [String: JSONValue] {
    var body: [String: JSONValue] = [:]
    if let text = vhost.description, !text.isEmpty { body["description"] = .string(text) }
    if let tags = vhost.tags, !tags.isEmpty { body["tags"] = .string(tags.joined(separator: ",")) }
    if let type = vhost.defaultQueueType { body["default_queue_type"] = .string(type) }
    return body
  }

  private func compared(_ left: RabbitMQDefinitionsDiff) -> [Finding] {
    var findings = left.entries.filter { $0.change != .extra }.map { entry in
      Finding(
        "definitions-restored", .failure, subject: "\(entry.kind.rawValue) \(entry.name)",
        evidence: entry.change == .add
          ? "the broker took it without a word, and it is not there" : "it is not as in the backup: \(entry.detail)",
        advice: "see the broker's log")
    }
    let extras = left.entries(.extra)
    if !extras.isEmpty {
      findings.append(
        Finding(
          "definitions-extra", mode == .exact ? .failure : .notice, subject: "definitions",
          evidence: "\(extras.count) are only on the broker: "
            + extras.prefix(10).map { "\($0.kind.rawValue) \($0.name)" }.joined(separator: ", ")))
    }
    findings.append(
      Finding(
        "definitions-restored", .passed, subject: "definitions",
        evidence: "\(left.same) were exported again and are as in the backup"))
    return findings
  }
}
