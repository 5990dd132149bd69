import DRCore
import Foundation
import NIOCore

/// What a replica was sent and its consumer has not taken yet, in its order, with the moments at which it came.
///
/// While the consumer keeps up, a reader that is ahead of it waits for a moment: so a disk is spared. One that is made to
/// wait for longer writes to a file instead, and is held up only when that is full. One task adds, one takes.
package final class ReplicaBacklog: Sendable {
  package typealias Event = ReplicaStateMachine.Event

  private enum Place: Sendable {
    case memory(Event)
    case file(isPayload: Bool, offset: Int64, count: Int)
  }

  private struct Entry: Sendable {
    var place: Place
    var arrival: Arrival
  }

  private struct State {
    var waiting = CircularBuffer<Entry>()
    var inMemory = 0
    var inFile = 0
    var file: SpoolFile?
    /// Nothing more comes.
    var end: (any Error)?
    var isClosed = false
    /// It was waited for in vain, and since then nothing was taken.
    var isStuck = false
    /// How long the reader may still be made to wait in all.
    var patience: Duration
  }

  /// How long a reader waits for room at a time, and in all, before it uses the file: less than any `repl-timeout`.
  private static let patience = (atOnce: Duration.seconds(1), inAll: Duration.seconds(10))
  /// What came together is kept together, up to so many bytes, and to this difference in seconds.
  private static let joining = (bytes: 32 << 10, seconds: 0.01)

  private let spool: RedisSpool
  private let state: MutableBox<State>
  /// Blocking calls.
  private let executor = BlockingExecutor(label: "redis.spool")
  private let room = WakeUp()
  private let news = WakeUp()

  package init(_ spool: RedisSpool, patience: Duration? = nil) {
    self.spool = spool
    state = MutableBox(State(patience: patience ?? Self.patience.inAll))
  }

  /// Bytes that wait in memory, and in the file.
  package var size: (memory: Int, file: Int64) { state.withLock { ($0.inMemory, $0.file?.end ?? 0) } }

  // MARK: The reader's side

  /// Adds what has come.
  ///
  /// - Throws: `CancellationError`, also once the consumer has gone.
  package func add(_ event: Event, _ arrival: Arrival = Arrival()) async throws {
    while true {
      try Task.checkCancellation()
      if try keep(event, arrival) { return news.call() }
      let patience = state.withLock { $0.isStuck ? .zero : min($0.patience, Self.patience.atOnce) }
      if patience > .zero {
        let begin = ContinuousClock.now
        await room.wait(patience)
        let waited = begin.duration(to: .now)
        state.withLock { state in
          state.patience -= min(waited, state.patience)
          state.isStuck = waited >= patience && state.inMemory > 0
        }
      } else if try await store(event, arrival) {
        return news.call()
      } else {
        await room.wait(.seconds(10))
      }
    }
  }

  /// Says that nothing more comes, and why.
  package func end(_ error: any Error) {
    state.withLock { $0.end = $0.end ?? error }
    news.call()
  }

  /// Returns false when there is no room in memory.
  private func keep(_ event: Event, _ arrival: Arrival) throws -> Bool {
    try state.withLock { state in
      guard !state.isClosed else { throw CancellationError() }
      if let last = state.waiting.indices.last, case .memory(.stream(let bytes)) = state.waiting[last].place,
        case .stream(let more) = event, Self.belong(state.waiting[last].arrival, bytes.readableBytes, more, arrival)
      {
        let joined = ByteBuffer(joining: bytes, more)
        guard state.inMemory - bytes.cost + joined.cost <= spool.memory else { return false }
        state.inMemory += joined.cost - bytes.cost
        state.waiting[last] = Entry(
          place: .memory(.stream(joined)), arrival: state.waiting[last].arrival.joined(arrival))
        return true
      }
      guard event.cost == 0 || state.inMemory == 0 || state.inMemory + event.cost <= spool.memory else { return false }
      state.inMemory += event.cost
      state.waiting.append(Entry(place: .memory(event), arrival: arrival))
      return true
    }
  }

  /// Many small pieces would take more memory than their bytes.
  private static func belong(_ arrival: Arrival, _ count: Int, _ more: ByteBuffer, _ next: Arrival) -> Bool {
    count + more.readableBytes <= joining.bytes && arrival.isLate == next.isLate && next.lateSince == nil
      && abs(next.moment.timeIntervalSince(arrival.moment)) <= joining.seconds
  }

  /// Returns false when there is no room in the file, or none can be had.
  private func store(_ event: Event, _ arrival: Arrival) async throws -> Bool {
    guard let bytes = event.bytes else { return false }
    let held = state.withLock { $0.file }
    guard (held?.end ?? 0) + Int64(bytes.readableBytes) <= spool.fileLimit else { return false }
    let place = spool.place
    // All that is done with the file is done there, one after the other.
    return try await executor.run { [self] in
      guard let file = try? held ?? SpoolFile(in: place), let offset = try? file.append(bytes) else { return false }
      try state.withLock { state in
        guard !state.isClosed else { throw CancellationError() }
        state.file = file
        if let last = state.waiting.indices.last, case .file(false, let start, let size) = state.waiting[last].place,
          !event.isPayload, start + Int64(size) == offset,
          Self.belong(state.waiting[last].arrival, size, bytes, arrival)
        {
          let whole = Place.file(isPayload: false, offset: start, count: size + bytes.readableBytes)
          state.waiting[last] = Entry(place: whole, arrival: state.waiting[last].arrival.joined(arrival))
        } else {
          state.inFile += 1
          let place = Place.file(isPayload: event.isPayload, offset: offset, count: bytes.readableBytes)
          state.waiting.append(Entry(place: place, arrival: arrival))
        }
      }
      return true
    }
  }

  // MARK: The consumer's side

  /// What came next, and when; nil if nothing comes within the time.
  ///
  /// - Throws: What the reader ended with, once all was taken; ``DRError`` with `notWritable` if the file cannot be read;
  ///   `CancellationError`.
  package func next(waiting limit: Duration) async throws -> (event: Event, arrival: Arrival)? {
    let deadline = ContinuousClock.now + limit
    while true {
      try Task.checkCancellation()
      if let taken = try await take() { return taken }
      let left = ContinuousClock.now.duration(to: deadline)
      guard left > .zero else { return nil }
      await news.wait(left)
    }
  }

  /// Drops everything: the consumer has gone.
  package func close() {
    state.withLock { state in
      state.isClosed = true
      state.waiting.removeAll()
      state.inMemory = 0
    }
    room.call()
    news.call()
  }

  private func take() async throws -> (Event, Arrival)? {
    let entry = try state.withLock { state -> Entry? in
      guard !state.isClosed else { throw CancellationError() }
      guard let entry = state.waiting.popFirst() else {
        if let end = state.end { throw end }
        return nil
      }
      if case .memory(let event) = entry.place { state.inMemory -= event.cost }
      state.isStuck = false
      return entry
    }
    guard let entry else { return nil }
    switch entry.place {
    case .memory(let event):
      room.call()
      return (event, entry.arrival)
    case .file(let isPayload, let offset, let count):
      let bytes = try await executor.run { [self] in
        let file = state.withLock { $0.file }
        let bytes = try file?.read(count, at: offset) ?? ByteBuffer()
        let isLast = state.withLock { state in
          state.inFile -= 1
          return state.inFile == 0
        }
        if isLast { file?.empty() }
        return bytes
      }
      room.call()
      return (isPayload ? .payload(bytes) : .stream(bytes), entry.arrival)
    }
  }
}

extension ReplicaStateMachine.Event {
  /// Of the data set or the stream.
  fileprivate var bytes: ByteBuffer? {
    switch self {
    case .payload(let bytes), .stream(let bytes): bytes
    default: nil
    }
  }

  /// What it takes of the memory.
  fileprivate var cost: Int { bytes?.cost ?? 0 }

  fileprivate var isPayload: Bool { if case .payload = self { true } else { false } }
}

extension Arrival {
  /// Of what came together: when the last of it came.
  fileprivate func joined(_ last: Arrival) -> Arrival {
    Arrival(moment: last.moment, isLate: isLate, lateSince: lateSince)
  }
}

extension ByteBuffer {
  /// A piece of a large buffer keeps all of it.
  fileprivate var cost: Int { max(readableBytes, storageCapacity) }

  /// A copy of both.
  fileprivate init(joining one: ByteBuffer, _ other: ByteBuffer) {
    self = ByteBufferAllocator().buffer(capacity: one.readableBytes + other.readableBytes)
    writeImmutableBuffer(one)
    writeImmutableBuffer(other)
  }
}
