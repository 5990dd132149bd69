import DRCore
import Foundation
import Synchronization

/// Up to where a restore of one queue has come: a small file, so that a killed restore goes on where it stopped.
///
///     {"archive":"<SHA-256>","to":"host:port//queue"}      what is restored to where, one line; "of": what of it, if that is not the archive alone
///     500                                                 the first 500 messages that are published are confirmed
///     1000
///     unmarked                                            a connection published whose end cannot be seen
///     consumers                                           consumers were at the queue, and may have taken what was brought
///     finished                                            all of them are
///
/// A line counts once its end is there. Each is on disk before more than a window of messages has gone out after it: so a
/// restore that was killed repeats one window at most. What is left out of a restore has no number: as many messages as a line says
/// were brought to the queue.
///
/// The file is there from ``begin()`` until ``remove()``: of a queue that is finished until the whole restore is, so that one that goes on
/// passes over it.
final class RestoreJournal: Sendable {
  private struct Identity: Codable {
    var archive: String
    var to: String
    var of: String?
  }

  /// What an earlier restore had confirmed; 0: none, or nothing.
  let resumedFrom: UInt64
  /// Whether there was an earlier one.
  let isResumed: Bool
  /// Whether an earlier one has brought all.
  let isFinished: Bool
  /// Whether a connection may still be there, and publish, that has no ``RestoreMark``.
  let hasUnmarked: Bool
  /// Whether consumers were seen at the queue.
  let hadConsumers: Bool
  private static let unmarked = "unmarked"
  private static let consumers = "consumers"
  private static let finished = "finished"
  private let path: String
  private let file: FileHandle
  private let identity: Identity
  private let state: Mutex<State>

  private struct State {
    var last: UInt64
    var hasBegun: Bool
    /// Seen before it began.
    var hasConsumers = false
  }

  /// - Parameter part: What is published, where that is not the archive alone: only the same can be gone on with.
  /// - Throws: ``DRError``: `notWritable`; `invalidConfiguration` if the file speaks of something else.
  init(_ path: String, archive: String, destination: String, of part: String?) throws {
    self.path = path
    identity = Identity(archive: archive, to: destination, of: part)
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      throw DRError(.notWritable, "the journal of the restore cannot be written", object: path)
    }
    file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      throw DRError(.destinationInUse, "another restore works with this journal", object: path)
    }
    let text = String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
    if let first = lines.first {
      try Self.compare(try JSONDecoder().decode(Identity.self, from: Data(first.utf8)), identity, path)
      resumedFrom = lines.dropFirst().compactMap { UInt64($0) }.last ?? 0
      hasUnmarked = lines.contains { $0 == Self.unmarked }
      hadConsumers = lines.contains { $0 == Self.consumers }
      isFinished = lines.contains { $0 == Self.finished }
      isResumed = true
      state = Mutex(State(last: resumedFrom, hasBegun: true))
      // What was being written when it was killed.
      let whole = lines.reduce(0) { $0 + $1.utf8.count + 1 }
      try file.truncate(atOffset: UInt64(whole))
    } else {
      resumedFrom = 0
      isResumed = false
      isFinished = false
      hasUnmarked = false
      hadConsumers = false
      state = Mutex(State(last: 0, hasBegun: false))
    }
  }

  /// What was opened and never begun leaves no file: it would pass for a restore that was killed.
  deinit { if state.withLock({ !$0.hasBegun }) { unlink(path) } }

  private static func compare(_ found: Identity, _ wanted: Identity, _ path: String) throws {
    guard found.archive == wanted.archive, found.to.exact == wanted.to.exact else {
      throw DRError(
        .invalidConfiguration, "the journal is of another restore",
        advice: "remove it if that one is not to go on, or use another folder", object: path)
    }
    guard found.of == wanted.of else {
      throw DRError(
        .invalidConfiguration,
        "the journal is of a restore of other messages: of \(found.of ?? "the backup alone"), and this one is of "
          + "\(wanted.of ?? "the backup alone")",
        advice:
          "go on with the options of that one, and with the tap's segments as they were; or empty the queue, remove "
          + "the journal, and begin anew", object: path)
    }
  }

  /// Says that publishing begins. Durable when it returns.
  func begin() throws {
    try state.withLock { state in
      guard !state.hasBegun else { return }
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      try file.truncate(atOffset: 0)
      state.hasBegun = true
      try write(String(decoding: try encoder.encode(identity), as: UTF8.self))
      if state.hasConsumers { try write(Self.consumers) }
    }
  }

  /// Says that so many messages are confirmed. Durable when it returns.
  func note(_ confirmed: UInt64) throws {
    try state.withLock { state in
      guard confirmed > state.last else { return }
      try write("\(confirmed)")
      state.last = confirmed
    }
  }

  /// Says that a connection publishes whose end the next restore cannot see. Durable when it returns.
  func noteUnmarked() throws { try state.withLock { _ in try write(Self.unmarked) } }

  /// Says that consumers are at the queue. Durable when it returns, or when it has begun.
  func noteConsumers() throws {
    guard !hadConsumers else { return }
    try state.withLock { state in
      if state.hasBegun { try write(Self.consumers) } else { state.hasConsumers = true }
    }
  }

  /// Says that all messages of the queue are confirmed, while other queues are still to be restored. Durable when it returns.
  func finish() throws { try state.withLock { _ in try write(Self.finished) } }

  private func write(_ line: String) throws {
    do {
      try file.write(contentsOf: Data("\(line)\n".utf8))
    } catch {
      throw DRError(.notWritable, "the journal of the restore cannot be written", object: path, cause: error)
    }
    guard fdatasync(file.fileDescriptor) == 0 else {
      throw DRError(.notWritable, "the journal of the restore cannot be written to disk", object: path)
    }
  }

  /// The whole restore is done.
  func remove() { unlink(path) }
}
