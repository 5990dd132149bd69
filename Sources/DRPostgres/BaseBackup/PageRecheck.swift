import DRCore
import Foundation
import Logging
import NIOCore

/// A page that is damaged on the server, seen twice.
struct DamagedPage: Hashable, Sendable, CustomStringConvertible {
  var path: String
  var page: Int64
  var verdict: PageVerdict

  var description: String {
    let why =
      switch verdict {
      case .checksumMismatch(let stored, let computed): "checksum \(stored) stored, \(computed) computed"
      case .malformedHeader: "its header is none"
      case .new, .ok: "sound"
      }
    return "page \(page) of \(path) (\(why))"
  }
}

/// Reads pages that look damaged again from the server: a page that was torn by a write in progress is whole by then,
/// a damaged one is not.
struct PageRecheck {
  /// How often a page that keeps changing is read before it is called damaged.
  static let attempts = 5

  let side: PostgresSideConnection
  let logger: Logger

  /// The pages that are damaged indeed.
  ///
  /// - Throws: ``DRError`` with `sourceDamaged` if the server does not let pages be read, or if there are too many to
  ///   look at.
  func confirm(_ suspects: [SuspectPage], count: Int) async throws -> [DamagedPage] {
    var damaged: [DamagedPage] = []
    for suspect in suspects {
      if let verdict = try await confirm(suspect) {
        let page = DamagedPage(path: suspect.path, page: suspect.page, verdict: verdict)
        logger.error("damaged page", metadata: ["postgres.page": "\(page)"])
        damaged.append(page)
      }
    }
    guard suspects.count == count else {
      throw DRError(
        .sourceDamaged, "\(count) pages look damaged, of the first \(suspects.count) \(damaged.count) are",
        advice: "look at the server's disk; no backup was stored")
    }
    return damaged
  }

  private func confirm(_ suspect: SuspectPage) async throws -> PageVerdict? {
    var last = suspect.bytes
    var verdict = suspect.verdict
    for attempt in 0..<PageRecheck.attempts {
      if attempt > 0 { try await Task.sleep(for: .milliseconds(50 << attempt)) }
      let current: ByteBuffer?
      do {
        current = try await side.page(suspect.page, of: suspect.path)
      } catch let error as DRError {
        throw DRError(
          .sourceDamaged,
          "page \(suspect.page) of \(suspect.path) looks damaged, and the server does not let it be read again",
          advice:
            "grant the backup role execution of pg_read_binary_file(text, bigint, bigint, boolean), or look at the page",
          object: suspect.path, cause: error)
      }
      // The file is gone or shorter by now: replaying the WAL drops or cuts it too.
      guard let current, current.readableBytes == PageChecksum.pageSize else { return nil }
      verdict = current.withUnsafeReadableBytes { PageVerdict($0, block: suspect.block, checksums: side.checksums) }
      if verdict.isGood { return nil }
      if current == last { return verdict }
      last = current
    }
    return verdict
  }
}
