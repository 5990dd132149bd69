import DRCore
import DRStorage
import Foundation
import Logging
import Metrics
import NIOCore

/// What a change log knows across connections: what was received, what is durable, and how to store more.
final class ChangeJournal: Sendable {
  fileprivate struct State {
    var assembler: ChangeAssembler?
    /// The folder of the line that is being written.
    var line: String?
    var received: Int64 = 0
    var durable: ReplicationPosition?
    /// When the last durable change arrived.
    var durableMoment: Date?
    var partial: ChangeSegment?
    /// Who is told what is durable.
    var session: ReplicaSession?
    /// The history under which the stream goes on behind an offset.
    var next: ReplicationPosition?
    /// The end of the log behind which a gap was named, until a snapshot is there.
    var namedGap: ReplicationPosition?
    /// By line, through where everything is durable, if that is not noted yet.
    var heads: [String: ReplicationPosition] = [:]
    /// It has been begun anew, which is noted at once.
    var isNewHead = false
  }

  private let archive: RedisLogArchive
  let options: RedisChangeLog.Options
  private let lease: ReceiverLease
  let logger: Logger
  private let onDurable: @Sendable (RecoveryPoint) async -> Void
  private let spool: ChangeSpool
  private let state = MutableBox(State())
  private let lag: Gauge
  private let stored: Counter

  init(
    archive: RedisLogArchive, options: RedisChangeLog.Options, lease: ReceiverLease, logger: Logger,
    onDurable: @escaping @Sendable (RecoveryPoint) async -> Void
  ) {
    self.archive = archive
    self.options = options
    self.lease = lease
    self.logger = logger
    self.onDurable = onDurable
    let folder = options.spoolFolder ?? FileManager.default.temporaryDirectory.path
    spool = ChangeSpool(memoryLimit: options.spoolMemory, limit: options.spoolLimit, folder: folder)
    let dimensions = [("component", "\(archive.component)")]
    lag = Gauge(label: "disaster_recovery.redis.log.lag_bytes", dimensions: dimensions)
    stored = Counter(label: "disaster_recovery.redis.log.segments_stored", dimensions: dimensions)
  }

  var received: Int64 { state.withLock { $0.received } }
  /// Where to ask the server to go on; nil before the first connection.
  var position: ReplicationPosition? { state.withLock { $0.assembler?.position } }
  var durable: ReplicationPosition? { state.withLock { $0.durable } }
  var lastPoint: RecoveryPoint? {
    state.withLock { state in
      guard let assembler = state.assembler else { return nil }
      let moment = assembler.partial().map { Date(milliseconds: $0.arrival) } ?? state.durableMoment
      return moment.map { assembler.position.recoveryPoint(at: $0) }
    }
  }

  /// The line that a position ends; a new one if there is none, which begins anew.
  func line(of position: ReplicationPosition) async throws -> (id: String, beginsAnew: Bool) {
    if let line = state.withLock({ $0.line }) { return (line, false) }
    let ended = try await archive.lines().first { $0.end == position }?.id
    return (ended ?? position.history, ended == nil)
  }

  /// A new line begins where a snapshot was taken.
  func begin(at position: ReplicationPosition) throws {
    state.withLock { state in
      state.assembler = ChangeAssembler(at: position, size: options.segmentSize, beginsAnew: true)
      state.line = position.history
      state.durable = position
      state.durableMoment = Date()
      state.partial = nil
      state.next = nil
      state.namedGap = nil
      // From now on the log is missed if it is not there.
      state.heads[position.history] = position
      state.isNewHead = true
    }
  }

  /// The stream goes on at a position, which is where the assembler is, or where the log ended before this process.
  ///
  /// - Parameter former: The history under which the server was asked, and the offset through which the stream is its own too;
  ///   nil: not known, or not beyond the position.
  func resume(
    at position: ReplicationPosition, line: (id: String, beginsAnew: Bool), former: ReplicationPosition? = nil
  ) async throws {
    let first = ReplicationPosition(history: former?.history ?? position.history, offset: position.offset)
    let next = former.map { ReplicationPosition(history: position.history, offset: $0.offset) }
    guard self.position != nil else {
      let database = await archive.database(at: position, line: line.id)
      state.withLock { state in
        state.assembler = ChangeAssembler(
          at: first, database: database, size: options.segmentSize, catchesUp: true, beginsAnew: line.beginsAnew)
        state.line = line.id
        state.durable = position
        state.durableMoment = nil
        state.next = next
        if !line.beginsAnew { state.heads[line.id] = first }
      }
      return
    }
    if self.position?.history != first.history { try seal() }
    state.withLock { state in
      state.assembler?.resume(under: first.history)
      state.next = next
    }
  }

  /// From now on, this session acknowledges what is durable.
  func follow(_ session: ReplicaSession?) {
    let durable = state.withLock { state in
      state.session = session
      return state.durable
    }
    if let durable { session?.setAcknowledged(durable.offset) }
  }

  /// Everything before a gap is on its way to be stored.
  ///
  /// - Returns: Whether the gap is a new one: not the one for which a snapshot was tried before.
  func sealForGap(after end: ReplicationPosition) throws -> Bool {
    try seal()
    return state.withLock { state in
      defer { state.namedGap = end }
      return state.namedGap != end
    }
  }

  /// Takes bytes of the stream.
  ///
  /// - Returns: Whether the server asks for an acknowledgement now.
  func append(_ bytes: ByteBuffer, _ arrival: Arrival) throws -> Bool {
    guard let own = state.withLock({ $0.ownBytes(of: bytes.readableBytes) }) else { return try add(bytes, arrival) }
    // What was made before a failover belongs to the former history, of which there may be snapshots.
    var rest = bytes
    let isAsked = try rest.readSlice(length: own).map { own > 0 ? try add($0, arrival) : false } ?? false
    try seal()
    state.withLock { state in
      if let next = state.next { state.assembler?.goOn(under: next.history) }
      state.next = nil
    }
    let isAskedLater = rest.readableBytes > 0 ? try add(rest, arrival) : false
    return isAsked || isAskedLater
  }

  private func add(_ bytes: ByteBuffer, _ arrival: Arrival) throws -> Bool {
    let moment = arrival.moment.millisecondsUp
    let (isAsked, isFull) = try state.withLock { state in
      state.received += Int64(bytes.readableBytes)
      guard var assembler = state.assembler else { return (false, false) }
      // Moved out, so that it is not copied when it grows.
      state.assembler = nil
      defer { state.assembler = assembler }
      let isAsked = try assembler.append(
        bytes, at: moment, isLate: arrival.isLate, since: arrival.lateSince?.milliseconds)
      return (isAsked, assembler.isFull)
    }
    if isFull { try seal() }
    return isAsked
  }

  private func seal() throws {
    try state.withLock { state in
      guard var assembler = state.assembler else { return }
      let before = assembler
      guard var piece = assembler.seal() else { return }
      piece.line = state.line ?? ""
      do {
        try spool.add(piece)
        state.assembler = assembler
      } catch {
        state.assembler = before
        throw error
      }
    }
  }

  /// Stores what there is, again and again, until it is cancelled.
  func store() async throws {
    var lastPartial = ContinuousClock.now
    var lastHead: ContinuousClock.Instant?
    while true {
      try Task.checkCancellation()
      try lease.refuseTaken()
      let isDue = lastHead.map { $0.duration(to: .now) >= options.headInterval } ?? true
      if state.withLock({ !$0.heads.isEmpty && (isDue || $0.isNewHead) }) {
        state.withLock { $0.isNewHead = false }
        try await retrying { try await self.storeHeads() }
        lastHead = .now
      } else if let piece = try spool.first() {
        try await retrying { try await self.store(full: piece) }
        spool.removeFirst()
        lastPartial = .now
      } else if lastPartial.duration(to: .now) >= options.partialInterval, let piece = duePartial() {
        try await retrying { try await self.store(partial: piece) }
        lastPartial = .now
      } else {
        try await Task.sleep(for: min(.milliseconds(20), options.partialInterval))
      }
    }
  }

  /// Stores all that was received, as far as the limit allows.
  ///
  /// - Throws: What kept it from that; nothing of what is not stored was ever acknowledged.
  func storeRest(within limit: Duration) async throws {
    // Not a child task: whoever stores the rest has been cancelled.
    let storing = Task {
      try await withTimeLimit(
        limit, "storing the last changes", advice: "see why the tier takes no segments"
      ) { [self] in
        while let piece = try spool.first() {
          try await store(full: piece)
          spool.removeFirst()
        }
        if let piece = duePartial() { try await store(partial: piece) }
        do {
          try await storeHeads()
        } catch let error as DRError {
          logger.notice("how far the change log goes was not noted", metadata: ["error": "\(error)"])
        }
      }
    }
    do {
      try await storing.value
    } catch {
      throw DRError(
        .tierUnavailable,
        "the last changes were not stored, and the server keeps them only as far as its backlog goes back",
        advice:
          "see why the tier takes no segments, and start again soon: what the server no longer has by then is a gap",
        component: archive.component, cause: error)
    }
  }

  /// What there is of the last segment, if it has more than what is durable.
  private func duePartial() -> ChangeAssembler.Piece? {
    state.withLock { state in
      // A segment may have become full since it was looked for: what follows it is not stored before it.
      guard spool.isEmpty, var piece = state.assembler?.partial(), piece.segment.end > state.durable?.offset ?? 0 else {
        return nil
      }
      piece.line = state.line ?? ""
      return piece
    }
  }

  private func store(full piece: ChangeAssembler.Piece) async throws {
    try await mayStore()
    let partial = state.withLock { $0.partial }
    let store = try archive.store(piece.line)
    _ = try await store.put(piece.segment.name, piece.bytes, encoding: archive.encoding)
    stored.increment()
    if let partial, partial.start == piece.segment.start { try await store.deletePartial(partial.name) }
    await report(piece, partial: nil)
  }

  private func store(partial piece: ChangeAssembler.Piece) async throws {
    try await mayStore()
    let partial = state.withLock { $0.partial }
    let store = try archive.store(piece.line)
    try await store.putPartial(piece.segment.name, piece.bytes, encoding: archive.encoding)
    // The shorter one goes only once the longer one is durable.
    if let partial, partial != piece.segment, partial.start == piece.segment.start {
      try await store.deletePartial(partial.name)
    }
    await report(piece, partial: piece.segment)
  }

  /// Waits for the lease, if it was lost while the tier was away.
  ///
  /// - Throws: ``DRError`` with `leaseLost` once another receiver has it, or has stored something meanwhile.
  private func mayStore() async throws {
    try await lease.permit { [self] in
      guard let (line, end) = state.withLock({ state in state.durable.map { (state.line, $0.offset) } }), let line
      else {
        return true
      }
      return try await archive.line(line).end?.offset ?? 0 <= end
    }
  }

  /// Notes how far the log goes, where that is not noted yet.
  private func storeHeads() async throws {
    for (line, position) in state.withLock({ $0.heads }) {
      try await mayStore()
      try await archive.putHead(position, line: line)
      state.withLock { if $0.heads[line] == position { $0.heads[line] = nil } }
    }
  }

  private func report(_ piece: ChangeAssembler.Piece, partial: ChangeSegment?) async {
    let moment = Date(milliseconds: piece.arrival)
    let end = ReplicationPosition(history: piece.segment.history, offset: piece.segment.end)
    let lagging = state.withLock { state -> Int64? in
      state.heads[piece.line] = end
      // What was left of the line before a gap is stored late, and says nothing of this one.
      guard piece.line == state.line else { return nil }
      state.durable = end
      state.durableMoment = moment
      state.partial = partial
      state.session?.setAcknowledged(end.offset)
      return (state.assembler?.end ?? end.offset) - end.offset
    }
    guard let lagging else { return }
    lag.record(lagging)
    await onDurable(end.recoveryPoint(at: moment))
  }
}

extension ChangeJournal.State {
  /// How many of the next bytes are of the former history too; nil: all of them are of one.
  fileprivate func ownBytes(of count: Int) -> Int? {
    guard let next, let received = assembler?.received, next.offset < received + Int64(count) else { return nil }
    return Int(max(0, next.offset - received))
  }
}
