public import DRCore
import Foundation
public import Logging
import NIOCore

/// Looks at a running broker, after a restore or at any time.
///
/// Every check gives a finding for what it looked at, also when all is well; when there was nothing to look at, that is a
/// notice, never a pass. A check that could not look is a failure that says so.
public struct RabbitMQProbes: Verifier {
  public enum Probe: String, Sendable, CaseIterable {
    /// AMQP and the management API answer.
    case connectivity
    /// No node is short of memory or disk.
    case alarms
    /// Every node of the cluster runs, and they see one another.
    case cluster
    /// Every queue of the backup is there, of its type.
    case queues
    /// Every queue holds as many messages as its backup.
    case depths
    /// Every durable queue has a binding beside the default one; none is an error, for the default exchange needs none.
    case bindings
    /// Queues that had consumers when they were backed up have some.
    case consumers
    /// Quorum queues and streams have a leader and a majority of their members.
    case quorum
    /// What a queue gives up goes somewhere.
    case deadLetters = "dead-letters"
    /// A message goes in, is confirmed, and comes out equal.
    case roundTrip = "round-trip"
  }

  public var broker: RabbitMQSettings
  /// What the broker should hold; nil: nothing to compare with.
  public var manifest: BackupManifest?
  public var probes: [Probe]
  /// How many messages each queue must hold, by `vhost/name`, where that is not what the backup has: those that a tap captured came back
  /// too.
  public var depths: [String: Int64]?
  /// The vhost of the round trip.
  public var vhost: String

  public init(
    _ broker: RabbitMQSettings, manifest: BackupManifest? = nil, probes: [Probe] = Probe.allCases, vhost: String = "/"
  ) {
    self.broker = broker
    self.manifest = manifest
    self.probes = probes
    self.vhost = vhost
  }

  public func verify(logger: Logger) async throws -> [Finding] {
    guard !probes.isEmpty else { throw DRError(.invalidConfiguration, "there are no probes") }
    var findings: [Finding] = []
    for probe in probes {
      do {
        findings += try await look(probe, logger)
      } catch {
        try Task.checkCancellation()
        findings.append(
          Finding(
            probe.rawValue, .failure, subject: "\(broker)", evidence: "could not be looked at: \(error)",
            advice: "make it possible to look, and look again: nothing is known until then"))
      }
    }
    return findings
  }

  private var api: ManagementAPI { ManagementAPI(broker) }
  private var records: [RabbitMQQueueRecord] { manifest.map(RabbitMQQueueRecord.all) ?? [] }

  private func look(_ probe: Probe, _ logger: Logger) async throws -> [Finding] {
    switch probe {
    case .connectivity: try await connectivity(logger)
    case .alarms: try await alarms()
    case .cluster: try await cluster()
    case .queues: try await queues()
    case .depths: try await depths(logger)
    case .bindings: try await bindings()
    case .consumers: try await consumers()
    case .quorum: try await quorum()
    case .deadLetters: try await deadLetters()
    case .roundTrip: try await roundTrip(logger)
    }
  }

  private func nothing(_ probe: Probe, _ why: String) -> [Finding] {
    [Finding(probe.rawValue, .notChecked, subject: "\(broker)", evidence: why)]
  }

  private func passed(_ probe: Probe, _ evidence: String) -> Finding {
    Finding(probe.rawValue, .passed, subject: "\(broker)", evidence: evidence)
  }

  private func connectivity(_ logger: Logger) async throws -> [Finding] {
    let facts = try await BrokerFacts(api)
    try await AMQPConnection.withConnection(broker, vhost: vhost, logger: logger) { _ in }
    return [passed(.connectivity, "RabbitMQ \(facts.rabbitMQVersion) answers over AMQP and HTTP")]
  }

  private func alarms() async throws -> [Finding] {
    let nodes = try await api.get("nodes").array ?? []
    let alarmed = nodes.flatMap { node -> [Finding] in
      [("mem_alarm", "memory"), ("disk_free_alarm", "disk")].compactMap { member, what in
        guard node.object?[member] == .bool(true) else { return nil }
        return Finding(
          Probe.alarms.rawValue, .failure, subject: node.object?["name"]?.string ?? "?",
          evidence: "it is short of \(what), and publishers are stopped", advice: "free some, or raise the limit")
      }
    }
    return alarmed.isEmpty ? [passed(.alarms, "\(nodes.count) nodes without an alarm")] : alarmed
  }

  private func cluster() async throws -> [Finding] {
    let nodes = (try await api.get("nodes").array ?? []).compactMap(\.object)
    var findings: [Finding] = []
    for node in nodes {
      let name = node["name"]?.string ?? "?"
      if node["running"] != .bool(true) {
        findings.append(
          Finding(Probe.cluster.rawValue, .failure, subject: name, evidence: "the node does not run"))
      }
      if let apart = node["partitions"]?.array, !apart.isEmpty {
        findings.append(
          Finding(
            Probe.cluster.rawValue, .failure, subject: name,
            evidence: "it is parted from \(apart.compactMap(\.string).joined(separator: ", "))"))
      }
    }
    return findings.isEmpty ? [passed(.cluster, "\(nodes.count) nodes run and see one another")] : findings
  }

  private func queues() async throws -> [Finding] {
    guard !records.isEmpty else { return nothing(.queues, "there is no backup with queues to compare with") }
    var findings: [Finding] = []
    for record in records {
      let queue: RabbitMQQueue?
      do {
        queue = try await RabbitMQQueue.find(record.vhost, record.name, api)
      } catch let error as DRError where error.rabbitMQCode == 404 {
        queue = nil
      }
      if queue == nil {
        findings.append(
          Finding(Probe.queues.rawValue, .failure, subject: record.title, evidence: "the queue is missing"))
      } else if let queue, queue.kind.rawValue != record.type {
        findings.append(
          Finding(
            Probe.queues.rawValue, .failure, subject: record.title,
            evidence: "it is a \(queue.kind.rawValue) queue, and was a \(record.type) queue"))
      }
    }
    return findings.isEmpty ? [passed(.queues, "\(records.count) queues are there")] : findings
  }

  private func depths(_ logger: Logger) async throws -> [Finding] {
    guard !records.isEmpty else { return nothing(.depths, "there is no backup with queues to compare with") }
    var findings: [Finding] = []
    var messages: Int64 = 0
    for (vhost, records) in Dictionary(grouping: records, by: \.vhost.exact).sorted(by: { $0.key < $1.key }) {
      // A stream's own count is of chunks not yet cut off, and an estimate.
      for record in records where record.type != "stream" {
        let depth: AMQPConnection.Depth
        do {
          depth = try await AMQPConnection.withConnection(broker, vhost: vhost.text, logger: logger) {
            try await $0.depth(of: record.name, RabbitMQQueue.Kind(rawValue: record.type) ?? .quorum)
          }
        } catch let error as DRError where error.rabbitMQCode == 404 {
          findings.append(
            Finding(Probe.depths.rawValue, .failure, subject: record.title, evidence: "the queue is missing"))
          continue
        }
        messages += Int64(depth.ready)
        let wanted = depths.map { $0[record.title] ?? 0 } ?? record.summary.messages
        guard Int64(depth.ready) != wanted else { continue }
        findings.append(
          Finding(
            Probe.depths.rawValue, depth.consumers > 0 ? .notice : .failure, subject: record.title,
            evidence: "\(depth.ready) messages, and "
              + (depths == nil ? "the backup has \(wanted)" : "\(wanted) were restored")
              + (depth.consumers > 0 ? "; consumers are at work" : "")))
      }
    }
    if !findings.contains(where: { $0.severity == .failure }) {
      findings.append(passed(.depths, "\(messages) messages in \(records.count) queues"))
    }
    return findings
  }

  private func bindings() async throws -> [Finding] {
    guard !records.isEmpty else { return nothing(.bindings, "there is no backup with queues to look for") }
    var bare: [String] = []
    for record in records {
      let path = "queues/\(ManagementAPI.escape(record.vhost))/\(ManagementAPI.escape(record.name))/bindings"
      let bindings = try await api.find(path)?.array ?? []
      if !bindings.contains(where: { $0.object?["source"] != "" }) { bare.append(record.title) }
    }
    guard !bare.isEmpty else { return [passed(.bindings, "\(records.count) queues are bound to exchanges")] }
    return [
      Finding(
        Probe.bindings.rawValue, .notice, subject: bare.prefix(10).joined(separator: ", "),
        evidence: "\(bare.count) of \(records.count) queues are reached by the default exchange only")
    ]
  }

  private func consumers() async throws -> [Finding] {
    let wanted = records.filter { $0.consumers > 0 }
    guard !wanted.isEmpty else { return nothing(.consumers, "no queue of the backup had consumers") }
    var findings: [Finding] = []
    for record in wanted {
      let queue = try await RabbitMQQueue.find(record.vhost, record.name, api)
      guard queue.consumers == 0 else { continue }
      findings.append(
        Finding(
          Probe.consumers.rawValue, .warning, subject: record.title,
          evidence: "no consumer, and \(record.consumers) when it was backed up", advice: "start the application"))
    }
    return findings.isEmpty ? [passed(.consumers, "\(wanted.count) queues have consumers")] : findings
  }

  /// What the broker tells of leaders and members comes with its statistics, every few seconds: just after a start, or of a
  /// queue that was just made, it does not know them yet.
  private func quorum() async throws -> [Finding] {
    let deadline = ContinuousClock.now + Self.statisticsLimit
    while true {
      let findings = try await quorumNow()
      guard findings.contains(where: { $0.severity == .failure }), ContinuousClock.now < deadline else {
        return findings
      }
      try await Task.sleep(for: .milliseconds(500))
    }
  }

  /// How long what the broker's statistics do not say yet is waited for.
  private static let statisticsLimit = Duration.seconds(30)

  private func quorumNow() async throws -> [Finding] {
    let queues = (try await api.get("queues").array ?? []).compactMap(\.object).filter {
      ["quorum", "stream"].contains($0["type"]?.string ?? "")
    }
    guard !queues.isEmpty else { return nothing(.quorum, "there are no quorum queues and no streams") }
    var findings: [Finding] = []
    for queue in queues {
      let title = "\(queue["vhost"]?.string ?? "?")/\(queue["name"]?.string ?? "?")"
      let (members, online) = (queue["members"]?.array?.count ?? 0, queue["online"]?.array?.count ?? 0)
      func failed(_ evidence: String) {
        findings.append(Finding(Probe.quorum.rawValue, .failure, subject: title, evidence: evidence))
      }
      // Of a stream the broker may name the node alone.
      if (queue["leader"] ?? queue["node"])?.string?.isEmpty ?? true {
        failed("it has no leader")
      } else if members == 0 {
        failed("the broker does not say which members it has")
      } else if online * 2 <= members {
        failed("\(online) of \(members) members are online: no majority")
      } else if online < members {
        findings.append(
          Finding(
            Probe.quorum.rawValue, .warning, subject: title, evidence: "\(online) of \(members) members are online"))
      }
    }
    if findings.isEmpty { findings.append(passed(.quorum, "\(queues.count) have a leader and all their members")) }
    return findings
  }

  private func deadLetters() async throws -> [Finding] {
    let policies = try await QueuePolicies.read(api)
    let queues = (try await api.get("queues").array ?? []).compactMap(RabbitMQQueue.init).map(policies.applied)
    let giving = queues.compactMap { queue in
      queue.setting("dead-letter-exchange").map { (queue: queue, exchange: $0) }
    }
    guard !giving.isEmpty else { return nothing(.deadLetters, "no queue has a dead-letter exchange") }
    var findings: [Finding] = []
    for (queue, exchange) in giving {
      let vhost = ManagementAPI.escape(queue.vhost)
      var problem: String?
      if exchange.isEmpty {
        // The default exchange: the routing key is a queue's name.
        if let key = queue.setting("dead-letter-routing-key"),
          try await api.find("queues/\(vhost)/\(ManagementAPI.escape(key))") == nil
        {
          problem = "its dead letters go to the queue '\(key)', which is not there"
        }
      } else if try await api.find("exchanges/\(vhost)/\(ManagementAPI.escape(exchange))") == nil {
        problem = "its dead-letter exchange '\(exchange)' is not there"
      } else if try await api.find("exchanges/\(vhost)/\(ManagementAPI.escape(exchange))/bindings/source")?.array?
        .isEmpty
        ?? true
      {
        problem = "nothing is bound to its dead-letter exchange '\(exchange)'"
      }
      if let problem {
        findings.append(
          Finding(
            Probe.deadLetters.rawValue, .failure, subject: queue.title, evidence: problem,
            advice: "what this queue gives up is lost until that is mended"))
      }
    }
    return findings.isEmpty ? [passed(.deadLetters, "\(giving.count) queues give up to somewhere")] : findings
  }

  private func roundTrip(_ logger: Logger) async throws -> [Finding] {
    try await AMQPConnection.withConnection(broker, vhost: vhost, logger: logger) { connection in
      guard try await ProbeQueue.with(messages: 1, on: connection, body: { try await $0.takeNext() }) else {
        return [
          Finding(
            Probe.roundTrip.rawValue, .failure, subject: "\(broker)",
            evidence: "a message that was published did not come back as it was")
        ]
      }
      return [passed(.roundTrip, "a message was published, confirmed and read back equal")]
    }
  }
}
