import DRCore
import Foundation
import Logging
import NIOCore

/// An ordinary connection beside the replication connection, which cannot run SQL: for the server's clock, and to read
/// single pages. A role that may only replicate has none.
struct PostgresSideConnection: Sendable {
  private let connection: PostgresConnection?
  let checksums: Bool

  static func with<Result>(
    _ settings: PostgresConnectionSettings, logger: Logger, isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresSideConnection) async throws -> Result
  ) async throws -> Result {
    var settings = settings
    settings.database = settings.database ?? "postgres"
    let connection: PostgresConnection
    let checksums: Bool
    do {
      connection = try await PostgresConnection.connect(settings, logger: logger)
      checksums = try await connection.query("SHOW data_checksums").single == "on"
    } catch let error as DRError where error.code == .sourceFailed {
      logger.warning(
        "no ordinary connection beside the backup: pages cannot be read again, and this host's clock is used",
        metadata: ["error": "\(error)"])
      return try await body(PostgresSideConnection(connection: nil, checksums: true))
    }
    do {
      let result = try await body(PostgresSideConnection(connection: connection, checksums: checksums))
      await connection.close()
      return result
    } catch {
      await connection.close()
      throw error
    }
  }

  /// The server's clock, or nil if it cannot be asked.
  func now() async throws -> Date? {
    guard let connection else { return nil }
    let rows = try await connection.query("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return rows.single.flatMap { Double($0) }.map { Date(timeIntervalSince1970: $0 / 1_000_000) }
  }

  /// The bytes of a page as the server reads them now, or nil if the file is gone.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` if the role may not, or cannot connect.
  func page(_ page: Int64, of path: String) async throws -> ByteBuffer? {
    guard let connection else {
      throw DRError(.sourceFailed, "the backup role cannot connect to a database")
    }
    let rows = try await connection.query(
      "SELECT pg_read_binary_file($1, $2::bigint, $3::bigint, true) AS page",
      [path, "\(page * Int64(PageChecksum.pageSize))", "\(PageChecksum.pageSize)"])
    return rows.first?.bytes("page").map { ByteBuffer(bytes: $0) }
  }
}
