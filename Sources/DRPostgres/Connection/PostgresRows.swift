import CLibPQ

/// The rows of one result set, as text. Also a command's answer, which has no rows.
package struct PostgresRows: Sendable, RandomAccessCollection {
  /// One row.
  package struct Row: Sendable {
    package let columns: [String]
    package let values: [String?]

    /// The value in a column, nil if it is NULL or if there is no such column.
    package subscript(column: String) -> String? {
      columns.firstIndex(of: column).flatMap { values[$0] }
    }

    /// The value at an index, nil if it is NULL or if there is no such column.
    package subscript(index: Int) -> String? { values.indices.contains(index) ? values[index] : nil }

    /// A `bytea` value in the server's hex form, nil if it is NULL or not that.
    package func bytes(_ column: String) -> [UInt8]? {
      guard let text = self[column]?.utf8, text.starts(with: #"\x"#.utf8), text.count.isMultiple(of: 2) else {
        return nil
      }
      var bytes: [UInt8] = []
      bytes.reserveCapacity(text.count / 2 - 1)
      var high: UInt8?
      for character in text.dropFirst(2) {
        guard let digit = Self.digit(character) else { return nil }
        if let first = high {
          bytes.append(first << 4 | digit)
          high = nil
        } else {
          high = digit
        }
      }
      return bytes
    }

    private static func digit(_ character: UInt8) -> UInt8? {
      switch character {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
      default: nil
      }
    }
  }

  package let columns: [String]
  /// What the server did, as in `SELECT 3`.
  package let commandTag: String
  private let values: [[String?]]

  package var startIndex: Int { 0 }
  package var endIndex: Int { values.count }
  package subscript(index: Int) -> Row { Row(columns: columns, values: values[index]) }

  /// The first column of the first row: the answer to a question that has one.
  package var single: String? { values.first?.first ?? nil }

  /// The answer of a command that gives no rows.
  init(commandTag: String) {
    columns = []
    values = []
    self.commandTag = commandTag
  }

  init(_ result: borrowing PGResult) {
    let pointer = result.pointer
    let width = PQnfields(pointer)
    columns = (0..<width).map { String(cString: PQfname(pointer, $0)) }
    commandTag = PQcmdStatus(pointer).map { String(cString: $0) } ?? ""
    values = (0..<PQntuples(pointer)).map { row in
      (0..<width).map { column in
        guard PQgetisnull(pointer, row, column) == 0, let bytes = PQgetvalue(pointer, row, column) else { return nil }
        let length = Int(PQgetlength(pointer, row, column))
        return String(decoding: UnsafeRawBufferPointer(start: bytes, count: length), as: UTF8.self)
      }
    }
  }
}

/// What the server answers to one command: a sequence of these.
package enum PostgresResult: Sendable {
  case rows(PostgresRows)
  /// A command that gives no rows has ended, with its tag.
  case command(String)
  /// The server sends copy data now.
  case copyOut
  /// The server takes copy data now.
  case copyIn
  /// Both, as in streaming replication.
  case copyBoth
}

/// Owns a libpq result.
struct PGResult: ~Copyable {
  let pointer: OpaquePointer

  var status: ExecStatusType { PQresultStatus(pointer) }

  deinit { PQclear(pointer) }
}
