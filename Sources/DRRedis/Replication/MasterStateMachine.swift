import DRCore
package import NIOCore

/// The master's side of Redis replication, towards one replica: bytes in, events out, no I/O.
///
/// It answers what a replica sends before its `PSYNC`, and reads its acknowledgements after. Source: redis
/// `src/replication.c` (`syncWithMaster`, `replconfCommand`).
package struct MasterStateMachine: Sendable {
  package enum Event: Hashable, Sendable {
    /// To be sent now.
    case send(ByteBuffer)
    /// It asks for data: the ID that it followed last, and the port that it announced.
    case synchronise(history: String, listeningPort: Int?)
    /// It has loaded the data set and taken the stream through an offset.
    case acknowledged(Int64)
  }

  private var parser = RESPParser()
  private var listeningPort: Int?
  private var isSynchronising = false

  package init() {}

  /// Takes bytes.
  ///
  /// - Throws: ``DRError`` with `malformedData`.
  package mutating func receive(_ bytes: ByteBuffer) throws -> [Event] {
    var bytes = bytes
    // While it loads, a replica says with empty lines that it lives.
    while parser.isAtBoundary, bytes.getInteger(at: bytes.readerIndex, as: UInt8.self) == 10 {
      bytes.moveReaderIndex(forwardBy: 1)
    }
    parser.append(bytes)
    var events: [Event] = []
    while let command = try parser.next() {
      let words = (command.elements ?? []).map { $0.text ?? "" }
      if let event = try answer(words) { events.append(event) }
      if parser.isAtBoundary { continue }
      parser.skipEmptyLines()
    }
    return events
  }

  private mutating func answer(_ words: [String]) throws -> Event? {
    func line(_ text: String) -> Event { .send(ByteBuffer(string: "+\(text)\r\n")) }
    switch words.first?.uppercased() {
    case "PING": return line("PONG")
    // Whoever holds the target's own password proves nothing here: it is known by its ID.
    case "AUTH": return line("OK")
    case "REPLCONF":
      if words.count >= 3, words[1].lowercased() == "ack" {
        return isSynchronising ? Int64(words[2]).map { .acknowledged($0) } : nil
      }
      if words.count >= 3, words[1].lowercased() == "listening-port" { listeningPort = Int(words[2]) }
      return line("OK")
    case "PSYNC":
      guard words.count >= 3, !isSynchronising else { throw unexpected("PSYNC") }
      isSynchronising = true
      return .synchronise(history: words[1], listeningPort: listeningPort)
    default: throw unexpected(String(words.first?.prefix(20) ?? "nothing"))
    }
  }

  private func unexpected(_ what: String) -> DRError {
    DRError(.malformedData, "this is no replica: it sent \(what)", advice: "see who connects to this port")
  }
}
