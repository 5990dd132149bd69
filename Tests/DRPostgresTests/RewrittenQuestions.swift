import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import NIOCore

/// A server that hears other questions than were asked: what a client says in SQL is rewritten on its way.
///
/// So a probe becomes a mutant of itself, whose question has one thing wrong, and nothing in the probe knows of it.
final class RewrittenQuestions: Sendable {
  struct Rewriting: Sendable, Hashable {
    var from: String
    var to: String
  }

  private let rewriting = MutableBox<Rewriting?>(nil)
  private let count = MutableBox(0)

  let settings: PostgresConnectionSettings

  private init(_ settings: PostgresConnectionSettings) { self.settings = settings }

  static func with<R: Sendable>(
    _ sandbox: PostgresSandbox, in folder: String, _ body: (RewrittenQuestions) async throws -> R
  ) async throws -> R {
    let port = sandbox.settings.port ?? 5432
    var settings = sandbox.settings
    settings.host = folder
    let questions = RewrittenQuestions(settings)
    let filter: @Sendable () -> SocketRelay.Filter = { questions.filter() }
    return try await SocketRelay.with(
      "\(sandbox.settings.host ?? "")/.s.PGSQL.\(port)", at: "\(folder)/.s.PGSQL.\(port)",
      questions: filter
    ) {
      try await body(questions)
    }
  }

  /// Rewrites what is asked while the body runs.
  ///
  /// - Returns: What the body returns, and how many questions were other ones.
  func asking<R: Sendable>(_ change: Rewriting?, _ body: () async throws -> R) async throws -> (R, rewritten: Int) {
    rewriting.withLock { $0 = change }
    count.withLock { $0 = 0 }
    defer { rewriting.withLock { $0 = nil } }
    return (try await body(), count.value)
  }

  /// Of a connection: its first message has no type.
  private func filter() -> SocketRelay.Filter {
    let isStarted = MutableBox(false)
    return { [self] pending in
      var passed = ByteBuffer()
      if !isStarted.value {
        guard let length = pending.getInteger(at: pending.readerIndex, as: UInt32.self),
          var start = pending.readSlice(length: Int(length))
        else { return passed }
        passed.writeBuffer(&start)
        isStarted.withLock { $0 = true }
      }
      while let type = pending.getInteger(at: pending.readerIndex, as: UInt8.self),
        let length = pending.getInteger(at: pending.readerIndex + 1, as: UInt32.self),
        pending.readableBytes >= 1 + Int(length)
      {
        pending.moveReaderIndex(forwardBy: 5)
        let content = pending.readBytes(length: Int(length) - 4) ?? []
        let said = changed(type, content)
        passed.writeInteger(type)
        passed.writeInteger(UInt32(said.count + 4))
        passed.writeBytes(said)
      }
      return passed
    }
  }

  /// In a simple query, and in a statement that is parsed.
  private func changed(_ type: UInt8, _ content: [UInt8]) -> [UInt8] {
    guard [UInt8(ascii: "Q"), UInt8(ascii: "P")].contains(type), let rewriting = rewriting.value,
      let text = String(validating: content, as: UTF8.self), text.contains(rewriting.from)
    else { return content }
    count.withLock { $0 += 1 }
    return Array(text.replacing(rewriting.from, with: rewriting.to).utf8)
  }
}
