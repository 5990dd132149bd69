public import DRCore
import Foundation
public import Logging

extension RabbitMQMessageRestorer {
  /// Where a queue's messages go, and which of them.
  struct Destination {
    /// Of all parts together.
    var record: RabbitMQQueueRecord
    /// Where its messages are, in their order: of a stream that was captured by and by, more than one.
    var parts: [ArchivePart]
    var queue: RabbitMQQueue
    var mark: RestoreMark
    var journal: RestoreJournal?
    /// An earlier restore, which was killed, has brought all of it.
    var isFinished = false
    /// The first message that is to be published, of those that are not left out.
    var first: UInt64
    var mayBeRepeated: UInt64
    /// Messages that are there and are not the restore's.
    var before: Int64
    /// When the dump of the queue had all, in milliseconds since 1970.
    var ended: Int64
    /// Where a tap follows.
    var seam: TapSeam?
    var findings: [Finding] = []
    /// Consumers were seen at it, by this restore or by the killed one: how deep it is does not tell what it was brought.
    var hadConsumers = false
  }

  /// Looks at a destination before anything is published: whether it is fit, and where a killed restore of it stopped.
  func prepare(
    _ newest: RabbitMQQueueRecord, _ chain: [any BackupReader], _ policies: QueuePolicies, _ limit: Int64?,
    _ logger: Logger
  ) async throws -> Destination {
    let parts = try ArchivePart.all(of: newest, in: chain)
    var record = newest
    record.summary.messages = parts.reduce(0) { $0 + $1.record.summary.messages }
    record.summary.bodyBytes = parts.reduce(0) { $0 + $1.record.summary.bodyBytes }
    let name = renames[exactly: record.title] ?? record.name
    var queue: RabbitMQQueue
    do {
      // Of a policy that is younger than some seconds, and of a queue that is, the broker's lists tell nothing.
      queue = policies.applied(to: try await RabbitMQQueue.find(record.vhost, name, ManagementAPI(broker)))
    } catch var error as DRError where error.rabbitMQCode == 404 {
      error.message = "the queue \(record.vhost)/\(name) is not there"
      error.advice = "restore the definitions first"
      throw error
    }
    var depth = try await AMQPConnection.withConnection(broker, vhost: record.vhost, logger: logger) {
      try await $0.depth(of: name, queue.kind)
    }
    if !overrides.contains(.notEmpty), depth.ready == 0, depth.consumers == 0 { try await waitOut(&queue) }
    let captured = try await look(at: newest, in: chain, limit)
    let journal = try journalFolder.map { folder in
      try RestoreJournal(
        "\(folder)/\(record.artifact).journal", archive: ArchivePart.identity(of: parts),
        destination: "\(broker.host):\(broker.port)/\(record.vhost)/\(name)", of: choice(captured, limit))
    }
    let (isResumed, isFinished) = (journal?.isResumed ?? false, journal?.isFinished ?? false)
    // Half a queue from a damaged archive would be worse than none: it is read to its end before anything is published.
    if readsFirst, !isFinished {
      for part in parts {
        try await part.reader.verify(part.artifact)
        logger.debug("an archive was read and is whole", metadata: ["object": "\(part.artifact.key)"])
      }
    }
    let mark = RestoreMark(queue, broker, logger)
    // What a killed restore has sent comes before what this one sends, also where its number cannot be known.
    let quiet =
      isFinished ? try await mark.currentDepth(of: queue) : isResumed ? try await mark.waitUntilQuiet(queue) : nil
    if let quiet { depth = quiet }
    // What is finished is the application's again.
    var obstacles =
      isFinished
      ? []
      : RestorePreflight.obstacles(
        queue, ready: Int64(depth.ready), consumers: Int64(depth.consumers), type: record.type, isResumed: isResumed)
    if let journal, isResumed, quiet != nil || queue.kind != .stream,
      let obstacle = RestorePreflight.mismatch(
        ready: Int64(depth.ready), consumers: Int64(depth.consumers), confirmed: journal.resumedFrom,
        hadConsumers: journal.hadConsumers)
    {
      obstacles.append(obstacle)
    }
    var destination = Destination(
      record: record, parts: parts, queue: queue, mark: mark, journal: journal, isFinished: isFinished, first: 0,
      mayBeRepeated: 0, before: isResumed ? 0 : Int64(depth.ready), ended: captured.ended, seam: captured.seam,
      findings: captured.findings)
    obstacles.removeAll { overrides.contains($0.refusal) }
    if obstacles.isEmpty, !isFinished, !overrides.contains(.maxLength),
      let obstacle = try await lengthObstacle(destination, captured, limit)
    {
      obstacles.append(obstacle)
    }
    if let obstacle = obstacles.first { throw Self.unfit(obstacle, "\(record.vhost)/\(name)") }
    if depth.consumers > 0 { try journal?.noteConsumers() }
    destination.hadConsumers = depth.consumers > 0 || journal?.hadConsumers ?? false
    var first = journal?.resumedFrom ?? 0
    var repeated: UInt64 = 0
    if let journal, isResumed, !isFinished {
      // Nobody consumed and nothing was there before: then the depth says how many had arrived, also those that the
      // killed restore had not heard of. What is left out of a restore is not counted: see ``RestoreJournal``.
      let isExact =
        quiet != nil && !journal.hasUnmarked && !journal.hadConsumers && depth.consumers == 0
        && overrides.isDisjoint(with: RestoreRefusal.sharingQueue) && queue.limit("message-ttl") == nil
      let arrived = UInt64(depth.ready)
      let limit = max(first, min(first + UInt64(window), UInt64(record.summary.messages + captured.messages)))
      if isExact, (first...limit).contains(arrived) {
        first = arrived
        // The next one must count from here: what is sent now comes on top of it.
        try journal.note(first)
      } else {
        repeated = limit - first
      }
    }
    (destination.first, destination.mayBeRepeated) = (first, repeated)
    return destination
  }

  /// Refuses queues that are there and are not fit. A restore looks at that itself, before anything is published; call it before definitions
  /// are restored, for a policy among them could make the broker drop what such a queue holds.
  ///
  /// What a killed restore goes on with by its journal is not judged here.
  ///
  /// - Throws: ``DRError`` with `destinationInUse`; what the broker says.
  public func refuseOccupied(_ reader: any BackupReader, logger: Logger) async throws {
    let api = ManagementAPI(broker)
    let records = RabbitMQQueueRecord.all(of: reader.manifest).filter {
      queues.contains(vhost: $0.vhost, name: $0.name, type: $0.type, durable: $0.durable)
    }
    for record in records {
      if let journalFolder, FileManager.default.fileExists(atPath: "\(journalFolder)/\(record.artifact).journal") {
        continue
      }
      let name = renames[exactly: record.title] ?? record.name
      var queue: RabbitMQQueue
      do {
        queue = try await RabbitMQQueue.find(record.vhost, name, api)
      } catch let error as DRError where error.rabbitMQCode == 404 {
        continue
      }
      let depth = try await AMQPConnection.withConnection(broker, vhost: record.vhost, logger: logger) {
        try await $0.depth(of: name, queue.kind)
      }
      if !overrides.contains(.notEmpty), depth.ready == 0, depth.consumers == 0 { try await waitOut(&queue) }
      let obstacles = RestorePreflight.obstacles(
        queue, ready: Int64(depth.ready), consumers: Int64(depth.consumers), type: record.type, isResumed: false
      ).filter { !overrides.contains($0.refusal) }
      if let obstacle = obstacles.first { throw Self.unfit(obstacle, "\(record.vhost)/\(name)") }
    }
  }

  private static func unfit(_ obstacle: RestorePreflight.Obstacle, _ queue: String) -> DRError {
    DRError(
      .destinationInUse, "the queue is not fit for a restore: \(obstacle.refusal): \(obstacle.evidence)",
      advice: "mend that, or override '\(obstacle.refusal)'", object: queue)
  }

  /// What the statistics tell of held messages may be ten seconds old: a dump has held them, say, and they were purged.
  private func waitOut(_ queue: inout RabbitMQQueue) async throws {
    let end = ContinuousClock.now + .seconds(12)
    while queue.unacknowledged > 0, ContinuousClock.now < end {
      try await Task.sleep(for: .seconds(1))
      queue.unacknowledged =
        try await RabbitMQQueue.find(queue.vhost, queue.name, ManagementAPI(broker)).unacknowledged
    }
  }

  /// Whether the queue would drop of what is to be published: of the dump, and of what the tap brings after it.
  private func lengthObstacle(
    _ destination: Destination, _ captured: Captured, _ limit: Int64?
  ) async throws -> RestorePreflight.Obstacle? {
    let summary = destination.record.summary
    let most = RestorePreflight.Load(
      messages: summary.messages + captured.messages, bytes: summary.bodyBytes + captured.bytes,
      fromTap: captured.messages)
    let obstacle = RestorePreflight.tooLong(destination.queue, ready: destination.before, load: most)
    guard obstacle != nil, captured.messages > 0 || leavesOutDuplicates else { return obstacle }
    // Some may be left out, for they are in the dump, or come twice: which, only reading all of it tells.
    let counts = try await read(destination, limit) { _ in }
    return RestorePreflight.tooLong(
      destination.queue, ready: destination.before,
      load: RestorePreflight.Load(messages: counts.messages, bytes: counts.bytes, fromTap: counts.fromTap))
  }

  /// What of an archive and what follows it is published, and by which decisions: a journal's numbers count just these messages.
  /// Nil: the archive alone.
  private func choice(_ captured: Captured, _ limit: Int64?) -> String? {
    var parts: [String] = []
    if leavesOutDuplicates { parts.append("without duplicates") }
    if let seam = captured.seam {
      parts.append("with the tap" + (limit.map { " through \(Timestamp.format(Date(milliseconds: $0)))" } ?? ""))
      parts.append("around the dump \(seam.basis)")
      parts += captured.missing
    }
    return parts.isEmpty ? nil : parts.joined(separator: ", ")
  }

  /// What a tap has to go on with behind a dump.
  private struct Captured {
    /// Nil: no tap is to be gone on with.
    var seam: TapSeam?
    /// When the dump had all, in milliseconds since 1970.
    var ended: Int64
    /// Messages that may be published, at most, and the bytes of their bodies.
    var messages: Int64 = 0
    var bytes: Int64 = 0
    /// Which segments are gone on without.
    var missing: [String] = []
    var findings: [Finding] = []
  }

  /// Reads what the tap has, before anything is published: whether all of it is there, and what is to be compared with the dump.
  private func look(
    at record: RabbitMQQueueRecord, in chain: [any BackupReader], _ limit: Int64?
  ) async throws -> Captured {
    let manifest = chain.last?.manifest
    let began = record.began ?? manifest?.recoveryPoint.time.milliseconds ?? 0
    let ended = max(began, record.ended ?? manifest?.ended.milliseconds ?? began)
    guard let tap else { return Captured(ended: ended) }
    var (messages, bytes): (Int64, Int64) = (0, 0)
    var seam = TapSeam(began: began, ended: ended, margin: seamMargin)
    let reading = try await tap.read(
      vhost: record.vhost, queue: record.name, since: seam.start, after: began, through: limit,
      allowsGaps: overrides.contains(.tapGap)
    ) { message, arrival in
      let side = seam.side(arrival)
      guard side != .before, limit.map({ arrival.lowerBound <= $0 }) ?? true else { return }
      messages += 1
      bytes += Int64(message.body.readableBytes)
      if side == .at { try seam.expect(message) }
    }
    let beginning = reading.beginnings.last { $0.bound <= began }
    if seam.needsHistory, beginning != nil || reading.beginnings.isEmpty {
      let isWhole = try await tap.readBack(
        vhost: record.vhost, queue: record.name, from: beginning?.number, before: seam.start
      ) { try seam.notePrevious($0) }
      seam.endPrevious(isWhole: isWhole, depth: beginning?.depth)
    }
    var lost: [Finding] = []
    if let manifest, reading.segments == 0, reading.through == nil, reading.beginnings.isEmpty,
      let tapRecord = TapRecord.all(of: manifest).first(where: {
        $0.vhost.exact == record.vhost.exact && $0.queue.exact == record.name.exact
      })
    {
      lost = [tapRecord.lost(manifest)]
      guard overrides.contains(.tapGap) else {
        throw DRError(
          .changeLogGap, lost[0].evidence, advice: lost[0].advice, component: manifest.component, object: record.title)
      }
    }
    var findings = (reading.findings + lost).map(overridden)
    if reading.segments == 0, reading.through == nil, lost.isEmpty, limit.map({ $0 > ended }) ?? true {
      let evidence =
        reading.beginnings.isEmpty
        ? "it has no tap in this repository: what was published after the dump is nowhere"
        : "its tap was made and has stored nothing yet: what was published after the dump is at most in the tap's queue"
      guard overrides.contains(.noTap) else {
        throw DRError(
          .changeLogGap,
          "the queue cannot be restored with what came after its dump: \(RestoreRefusal.noTap): \(evidence)",
          advice: "restore it without the tap, or choose those that are tapped; or override '\(RestoreRefusal.noTap)'",
          component: manifest?.component, object: record.title)
      }
      findings.append(
        Finding(RestoreRefusal.noTap.rawValue, .warning, subject: record.title, evidence: "\(evidence) (overridden)"))
    }
    findings += reach(of: reading, record, ended: ended, limit)
    let missing = reading.findings.filter { ["tap-segments", "tap-conflict"].contains($0.check) }.map(\.evidence)
    return Captured(
      seam: seam, ended: ended, messages: messages, bytes: bytes, missing: missing, findings: findings)
  }

  /// What was overridden by its name is no failure any more.
  private func overridden(_ finding: Finding) -> Finding {
    guard finding.severity == .failure, overrides.contains(.tapGap) else { return finding }
    var finding = finding
    finding.severity = .warning
    finding.evidence += " (overridden: \(RestoreRefusal.tapGap))"
    return finding
  }

  /// How far the tap goes, where that is not to the target, or not to about now.
  private func reach(
    of reading: RabbitMQTapLog.Reading, _ record: RabbitMQQueueRecord, ended: Int64, _ limit: Int64?
  ) -> [Finding] {
    let reach = max(reading.through ?? 0, reading.until ?? 0)
    func text(_ moment: Int64) -> String { Timestamp.format(Date(milliseconds: moment)) }
    let evidence =
      reach > 0
      ? "the tap of \(record.title) reaches only to \(text(reach))"
      : "no tap of \(record.title) has stored anything"
    if let limit, limit > max(reach, ended) {
      return [
        Finding(
          Self.reachCheck, .failure, subject: record.title,
          evidence: "\(evidence), and the target is \(text(limit)): what was published between the two is not restored",
          advice: "a tap that runs notes every 10 s how far it is; see that one runs")
      ]
    }
    // A tap that runs is not further behind than its note.
    guard limit == nil, reach > 0, reach < Date().milliseconds - 15_000 else { return [] }
    return [Finding(Self.reachCheck, .notice, subject: record.title, evidence: evidence)]
  }
}
