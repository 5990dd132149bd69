import DRCore
import Foundation
import Synchronization

/// Up to where a restore of one queue has come: a small file, so that a killed restore goes on where it stopped.
///
///     {"archive":"<SHA-256>","to":"host:port//queue"}      what is restored to where, one line
///     500                                                 every message of a lower number is confirmed
///     1000
///     unmarked                                            a connection published whose end cannot be seen
///     consumers                                           consumers were at the queue, and may have taken what was brought
///
/// A line counts once its end is there. Each is on disk before more than a window of messages has gone out after it: so a
/// restore that was killed repeats one window at most.
final class RestoreJournal: Sendable {
  private struct Identity: Codable, Equatable {
    var archive: String
    var to: String
  }

  /// What an earlier restore had confirmed; 0: none, or nothing.
  let resumedFrom: UInt64
  /// Whether there was an earlier one.
  let isResumed: Bool
  /// Whether a connection may still be there, and publish, that has no ``RestoreMark``.
  let hasUnmarked: Bool
  /// Whether consumers were seen at the queue.
  let hadConsumers: Bool
  private static let unmarked = "unmarked"
  private static let consumers = "consumers"
  private let path: String
  private let file: FileHandle
  private let last: Mutex<UInt64>

  /// - Throws: ``DRError``: `notWritable`; `invalidConfiguration` if the file speaks of something else.
  init(_ path: String, archive: String, destination: String) throws {
    self.path = path
    let identity = Identity(archive: archive, to: destination)
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
      guard try JSONDecoder().decode(Identity.self, from: Data(first.utf8)) == identity else {
        throw DRError(
          .invalidConfiguration, "the journal is of another restore",
          advice: "remove it if that one is not to go on, or use another folder", object: path)
      }
      resumedFrom = lines.dropFirst().compactMap { UInt64($0) }.last ?? 0
      hasUnmarked = lines.contains { $0 == Self.unmarked }
      hadConsumers = lines.contains { $0 == Self.consumers }
      isResumed = true
      last = Mutex(resumedFrom)
      // What was being written when it was killed.
      let whole = lines.reduce(0) { $0 + $1.utf8.count + 1 }
      try file.truncate(atOffset: UInt64(whole))
    } else {
      try file.truncate(atOffset: 0)
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      try file.write(contentsOf: try encoder.encode(identity) + Data("\n".utf8))
      try file.synchronize()
      resumedFrom = 0
      isResumed = false
      hasUnmarked = false
      hadConsumers = false
      last = Mutex(0)
    }
  }

  /// Says that every message of a lower number is confirmed. Durable when it returns.
  func note(_ confirmed: UInt64) throws {
    try last.withLock { last in
      guard confirmed > last else { return }
      try write("\(confirmed)")
      last = confirmed
    }
  }

  /// Says that a connection publishes whose end the next restore cannot see. Durable when it returns.
  func noteUnmarked() throws { try last.withLock { _ in try write(Self.unmarked) } }

  /// Says that consumers are at the queue. Durable when it returns.
  func noteConsumers() throws {
    guard !hadConsumers else { return }
    try last.withLock { _ in try write(Self.consumers) }
  }

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

  /// The restore is done.
  func remove() { unlink(path) }
}
