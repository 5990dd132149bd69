import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

/// A backup of a server whose files were damaged already says so wherever it is shown.
struct RecordedDamageTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  @Test("Damaged pages that were recorded are told by list and verify, which also says what it does not look at")
  func recorded() async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        try await server.query(
          "CREATE TABLE t AS SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n; CHECKPOINT")
        let path = try #require(try await server.query("SELECT pg_relation_filepath('t')").single)
        try await server.stop()
        let file = try FileHandle(forUpdating: URL(filePath: "\(server.dataFolder)/\(path)"))
        try file.seek(toOffset: 3 * 8192 + 5000)
        try file.write(contentsOf: [0, 0, 0, 0])
        try file.close()
        try await server.start()
        let refused = try await place.run("backup", "--include-wal", at: server)
        #expect(refused.status == 2 && refused.error.contains("page 3 of \(path)"), "\(refused.error)")
        let taken = try await place.run("backup", "--include-wal", "--record-damaged-pages", at: server)
        // Committed; and not as it should be.
        try #require(taken.status == 1, "\(taken.error)")
        let listed = try await place.run("list")
        #expect(listed.status == 0 && listed.output.contains("DAMAGED PAGES 1"), "\(listed.output)")
        let verified = try await place.run("verify")
        #expect(verified.status == 0, "\(verified.output)\(verified.error)")
        let lines = verified.output.split(separator: "\n")
        #expect(
          lines.contains { $0.hasPrefix("warning page-checksum ") && $0.contains("page 3 of \(path)") },
          "\(verified.output)")
        #expect(lines.contains { $0.hasPrefix("notice wal-restorable ") }, "\(verified.output)")
      }
    }
  }
}
