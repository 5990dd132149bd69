import DRCore
package import NIOCore

/// The replica's side of Redis replication: bytes in, events out, no I/O.
///
/// It asks for a full or a partial synchronisation, passes the payload through without its frame, and then the commands with
/// their exact offsets. Source: redis `src/replication.c` (`syncWithMaster`, `readSyncBulkPayload`, `syncCommand`).
package struct ReplicaStateMachine: Sendable {
  package enum Event: Hashable, Sendable {
    /// To be sent now.
    case send(ByteBuffer)
    /// A whole data set comes, and after it the stream from this position on.
    case fullResync(ReplicationPosition)
    /// The stream goes on where it was left, maybe under another ID.
    case continues(ReplicationPosition)
    /// What follows is the data set. The length is not known where the server sends it without a file.
    case payloadBegins(length: Int64?)
    case payload(ByteBuffer)
    case payloadEnds
    /// Raw bytes of the stream, the last of which has the offset ``ReplicaStateMachine/position``.
    case stream(ByteBuffer)
  }

  private enum Phase {
    case configuring([ByteBuffer])
    case synchronising
    /// Waiting for `$…`.
    case header
    case counted(left: Int64)
    /// Until the last 40 bytes are the mark; `held` is what may be its beginning.
    case marked(mark: [UInt8], held: ByteBuffer)
    case streaming
  }

  private let wanted: ReplicationPosition?
  private var phase: Phase
  private var line: [UInt8] = []
  /// Where the stream is. Nil before the server has answered.
  package private(set) var position: ReplicationPosition?

  /// - Parameters:
  ///   - resuming: Ask for what follows this position; nil: ask for everything.
  ///   - listeningPort: The port to announce. Nil announces none, so that no Sentinel takes this for a server.
  package init(resuming: ReplicationPosition? = nil, listeningPort: Int? = nil) {
    wanted = resuming
    var steps: [[String]] = []
    if let listeningPort { steps.append(["REPLCONF", "listening-port", "\(listeningPort)"]) }
    // Neither `rdb-channel-repl` nor `dual-channel`: those would need a second connection.
    steps.append(["REPLCONF", "capa", "eof", "capa", "psync2"])
    phase = .configuring(steps.map(Self.command))
  }

  package var isStreaming: Bool { if case .streaming = phase { true } else { false } }

  /// Whether what comes next is of the data set.
  package var isInPayload: Bool {
    switch phase {
    case .counted, .marked: true
    case .configuring, .synchronising, .header, .streaming: false
    }
  }

  /// Whether an acknowledgement may be sent. Not before the mark of a payload without a length was seen: at the first one the
  /// server goes on with the stream, and the mark is known only by being the last that came. Until then it needs none.
  package var mayAcknowledge: Bool {
    switch phase {
    case .counted, .streaming: true
    case .configuring, .synchronising, .header, .marked: false
    }
  }

  /// What to send first.
  package mutating func start() -> [Event] {
    guard case .configuring(let steps) = phase, let first = steps.first else { return [] }
    return [.send(first)]
  }

  /// Says that everything through an offset is durable. A server that sends without a file starts the stream only after
  /// the first one.
  package static func acknowledgement(_ offset: Int64) -> ByteBuffer { command(["REPLCONF", "ACK", "\(offset)"]) }

  /// Takes bytes.
  ///
  /// - Throws: ``DRError``: `sourceFailed` with the server's error as its cause; `malformedData`.
  package mutating func receive(_ bytes: ByteBuffer) throws -> [Event] {
    var bytes = bytes
    var events: [Event] = []
    while bytes.readableBytes > 0 {
      switch phase {
      case .configuring, .synchronising, .header: try takeLine(&bytes, &events)
      case .counted(let left):
        guard let piece = bytes.readSlice(length: Int(min(left, Int64(bytes.readableBytes)))) else { continue }
        events.append(.payload(piece))
        endCounted(left - Int64(piece.readableBytes), &events)
      case .marked(let mark, let held):
        takeMarked(&bytes, mark, held, &events)
      case .streaming:
        position?.offset += Int64(bytes.readableBytes)
        events.append(.stream(bytes))
        bytes = ByteBuffer()
      }
    }
    return events
  }

  private mutating func endCounted(_ left: Int64, _ events: inout [Event]) {
    if left > 0 {
      phase = .counted(left: left)
    } else {
      phase = .streaming
      events.append(.payloadEnds)
    }
  }

  /// The mark ends the payload only where it is the last that came: the server then waits for an acknowledgement. The
  /// same 40 bytes in the middle are data, for one server may use a mark twice. Before the mark, an RDB file has its
  /// checksum of 8 bytes, and before that the byte 255.
  private mutating func takeMarked(
    _ bytes: inout ByteBuffer, _ mark: [UInt8], _ held: ByteBuffer, _ events: inout [Event]
  ) {
    var all = held
    if all.readableBytes == 0 { all = bytes } else { all.writeImmutableBuffer(bytes) }
    bytes = ByteBuffer()
    let keep = mark.count + 9
    let size = all.readableBytes
    if size >= keep, all.getBytes(at: all.readerIndex + size - mark.count, length: mark.count) == mark,
      all.getInteger(at: all.readerIndex + size - keep, as: UInt8.self) == 0xFF
    {
      if let payload = all.readSlice(length: size - mark.count) { events.append(.payload(payload)) }
      events.append(.payloadEnds)
      phase = .streaming
      return
    }
    if size > keep, let payload = all.readSlice(length: size - keep) { events.append(.payload(payload)) }
    // A copy of its own: what is held must not keep a large buffer alive, nor be copied as a whole when it grows.
    phase = .marked(mark: mark, held: ByteBuffer(bytes: all.readableBytesView))
  }

  private mutating func takeLine(_ bytes: inout ByteBuffer, _ events: inout [Event]) throws {
    guard let byte = bytes.readInteger(as: UInt8.self) else { return }
    guard byte == 10 else {
      line.append(byte)
      guard line.count <= 64 << 10 else { throw malformed("a line without an end") }
      return
    }
    // An empty line says only that the server lives, as while it saves.
    if line.isEmpty { return }
    guard line.last == 13 else { throw malformed("a line that does not end with CR LF") }
    let text = String(decoding: line.dropLast(), as: UTF8.self)
    line.removeAll(keepingCapacity: true)
    switch phase {
    case .configuring(let steps): try configured(text, steps, &events)
    case .synchronising: try synchronised(text, &events)
    case .header: try payloadHeader(text, &events)
    case .counted, .marked, .streaming: break
    }
  }

  private mutating func configured(_ text: String, _ steps: [ByteBuffer], _ events: inout [Event]) throws {
    if text.hasPrefix("-") { throw refused("REPLCONF", text) }
    guard text == "+OK" else { throw malformed("an answer to REPLCONF that is not OK") }
    let rest = Array(steps.dropFirst())
    if let next = rest.first {
      phase = .configuring(rest)
      events.append(.send(next))
    } else {
      phase = .synchronising
      events.append(.send(Self.command(["PSYNC", wanted?.history ?? "?", wanted.map { "\($0.offset + 1)" } ?? "-1"])))
    }
  }

  private mutating func synchronised(_ text: String, _ events: inout [Event]) throws {
    if text.hasPrefix("-") { throw refused("PSYNC", text) }
    let words = text.split(separator: " ").map(String.init)
    switch words.first {
    case "+FULLRESYNC":
      guard words.count == 3, ReplicationPosition.isHistory(words[1]), let offset = Int64(words[2]), offset >= 0 else {
        throw malformed("a FULLRESYNC without its ID and offset")
      }
      let start = ReplicationPosition(history: words[1], offset: offset)
      position = start
      phase = .header
      events.append(.fullResync(start))
    case "+CONTINUE":
      guard var start = wanted else { throw malformed("a CONTINUE that was not asked for") }
      if words.count >= 2 {
        guard ReplicationPosition.isHistory(words[1]) else { throw malformed("a CONTINUE with an ID that is none") }
        start.history = words[1]
      }
      position = start
      phase = .streaming
      events.append(.continues(start))
    default: throw malformed("an answer to PSYNC that is none")
    }
  }

  private mutating func payloadHeader(_ text: String, _ events: inout [Event]) throws {
    if text.hasPrefix("-") { throw refused("PSYNC", text) }
    guard text.hasPrefix("$") else { throw malformed("no data set where one was announced") }
    if text.hasPrefix("$EOF:") {
      let mark = Array(text.utf8.dropFirst(5))
      guard mark.count == 40 else { throw malformed("an end mark of \(mark.count) bytes") }
      phase = .marked(mark: mark, held: ByteBuffer())
      events.append(.payloadBegins(length: nil))
    } else {
      guard let length = Int64(text.dropFirst()), length > 0 else { throw malformed("a data set of no length") }
      phase = .counted(left: length)
      events.append(.payloadBegins(length: length))
    }
  }

  private static func command(_ words: [String]) -> ByteBuffer {
    var buffer = ByteBuffer()
    buffer.writeRESPCommand(words)
    return buffer
  }

  private func refused(_ command: String, _ text: String) -> DRError {
    let error = RedisError(String(text.dropFirst()))
    let advice =
      switch error.kind {
      case "NOPERM": "let this user do +psync +replconf +ping (ACL SETUSER)"
      case "NOAUTH": "the server wants a password: name a file with it (--password-file), or set REDISCLI_AUTH"
      case "LOADING", "MASTERDOWN", "NOMASTERLINK", "BUSY": "wait until the server is ready"
      default: "see the server's log"
      }
    return DRError(.sourceFailed, "the server refused \(command)", advice: advice, cause: error)
  }

  private func malformed(_ what: String) -> DRError {
    DRError(
      .malformedData, "this is not Redis replication: \(what)", advice: "see what listens at this address")
  }
}
