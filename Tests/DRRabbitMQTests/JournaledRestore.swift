import DRCore
import DRRabbitMQ
import DRStorage
import Foundation
import Testing

/// A restore, with a journal, of a queue that was dumped: it can be killed, and goes on.
struct JournaledRestore: Sendable {
  let manifest: BackupManifest
  let record: RabbitMQQueueRecord
  let restorer: RabbitMQMessageRestorer
  private let repository: Repository
  private let finished: MutableBox<[RabbitMQMessageRestorer.QueueOutcome]>

  init(
    _ manifest: BackupManifest, of repository: Repository, by restorer: RabbitMQMessageRestorer
  ) throws {
    let finished = MutableBox<[RabbitMQMessageRestorer.QueueOutcome]>([])
    var restorer = restorer
    restorer.onQueue = { outcome in finished.withLock { $0.append(outcome) } }
    record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
    self.finished = finished
    self.restorer = restorer
    self.manifest = manifest
    self.repository = repository
  }

  /// What came of it, once it has come to its end.
  var outcomes: [RabbitMQMessageRestorer.QueueOutcome] { finished.value }

  /// Lines of the journal: the first says what is restored, each other one that more was confirmed.
  var journalLines: Int {
    get throws {
      let path = "\(try #require(restorer.journalFolder))/\(record.artifact).journal"
      return ((try? Data(contentsOf: URL(filePath: path))) ?? Data()).reduce(0) { $0 + ($1 == 0x0A ? 1 : 0) }
    }
  }

  @discardableResult
  func run() async throws -> RestoreOutcome {
    try await restorer.restore(from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
  }

  /// Begins, or goes on, and is killed as soon as something has come to pass.
  func kill(when what: String, _ hasCome: () async throws -> Bool) async throws {
    let failure = MutableBox<(any Error)?>(nil)
    let hasEnded = MutableBox(false)
    let work = Task {
      do {
        try await run()
        hasEnded.withLock { $0 = true }
      } catch {
        failure.withLock { $0 = error }
        throw error
      }
    }
    do {
      let deadline = ContinuousClock.now + .seconds(60)
      while try await !hasCome() {
        if let failure = failure.value { throw failure }
        guard ContinuousClock.now < deadline, !hasEnded.value else { throw DRError(.timedOut, "waited for: \(what)") }
        try await Task.sleep(for: .milliseconds(1))
      }
    } catch {
      work.cancel()
      _ = await work.result
      throw error
    }
    work.cancel()
    guard case .failure = await work.result else { throw DRError(.timedOut, "the kill came too late") }
  }
}

extension TestBroker {
  /// Fills a queue `source`, dumps it, makes an empty queue `destination` of the same type, and lends the restore of the one
  /// into the other.
  ///
  /// - Parameter size: Bytes of a message.
  func withJournaledRestore(
    type: String = "classic", count: Int, size: Int, _ change: (inout RabbitMQMessageRestorer) -> Void = { _ in },
    _ body: (JournaledRestore) async throws -> Void
  ) async throws {
    try await declare("source", type)
    try await declare("destination", type)
    try await publish(Self.numbered(0..<count, size: size), to: "source", window: 2000)
    try await Self.withRepository { repository, folder in
      let manifest = try await Self.backUp(
        source(RabbitMQQueueSelection(vhosts: [vhost], patterns: ["source"])), to: repository)
      var restorer = restorer()
      restorer.renames["\(vhost)/source"] = "destination"
      restorer.journalFolder = folder
      change(&restorer)
      let restore = try JournaledRestore(manifest, of: repository, by: restorer)
      try #require(restore.record.summary.messages == count)
      try await body(restore)
      let left = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".journal") }
      #expect(left.isEmpty)
    }
  }

  /// The numbers of a queue's ``numbered(_:size:_:)`` messages, in its order.
  func numbers(_ queue: String) async throws -> [Int?] {
    try await dump(queue).map { Int($0.text.prefix { $0 != "." }) }
  }
}
