import DRCore
import DRRedis
import DRTestSupport
import NIOCore
import Testing

/// Recorded bytes, cut at every possible place.
struct ReplicaStateMachineTests {
  private static let id = String(repeating: "0123456789abcdef", count: 3).prefix(40).description
  private static let other = String(repeating: "fedcba9876543210", count: 3).prefix(40).description
  private static let mark = String(repeating: "m4rk", count: 10)
  /// With what looks like the mark, and like keep-alives, inside; it ends as RDB files do.
  private static let payload =
    Array("REDIS0010\n\n\(mark)m4rkm4r\n$EOF:\r\n".utf8) + [0xFF] + Array("\(mark.prefix(8))".utf8)
  private static let stream =
    "*1\r\n$4\r\nping\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"

  /// What came, with the pieces of a kind joined.
  private struct Seen: Equatable {
    var sent: [String] = []
    var other: [ReplicaStateMachine.Event] = []
    var payload: [UInt8] = []
    var stream: [UInt8] = []
    var position: ReplicationPosition?
  }

  /// Bytes from the server: each text only after one more command has been sent. The pieces of the last are given.
  private static func run(_ pieces: [[UInt8]], resuming: ReplicationPosition? = nil) throws -> Seen {
    var machine = ReplicaStateMachine(resuming: resuming)
    var seen = Seen()
    func take(_ events: [ReplicaStateMachine.Event]) {
      for event in events {
        switch event {
        case .send(let bytes): seen.sent.append(String(buffer: bytes).split(separator: "\r\n").joined(separator: " "))
        case .payload(let bytes): seen.payload += bytes.readableBytesView
        case .stream(let bytes): seen.stream += bytes.readableBytesView
        default: seen.other.append(event)
        }
      }
    }
    take(machine.start())
    for piece in pieces { take(try machine.receive(ByteBuffer(bytes: piece))) }
    seen.position = machine.position
    return seen
  }

  private static func everyCut(_ bytes: [UInt8], _ body: ([[UInt8]], Int) throws -> Void) rethrows {
    try body([bytes], 0)
    for cut in 1..<bytes.count { try body([Array(bytes[..<cut]), Array(bytes[cut...])], cut) }
    try body(bytes.map { [$0] }, -1)
  }

  @Test func aCountedPayload() throws {
    let bytes =
      Array("+OK\r\n\n\n+FULLRESYNC \(Self.id) 1234\r\n\n\n$\(Self.payload.count)\r\n".utf8) + Self.payload
      + Array(Self.stream.utf8)
    try Self.everyCut(bytes) { pieces, cut in
      let seen = try Self.run(pieces)
      #expect(seen.payload == Self.payload, "cut at \(cut)")
      #expect(seen.stream == Array(Self.stream.utf8), "cut at \(cut)")
      #expect(
        seen.other == [
          .fullResync(ReplicationPosition(history: Self.id, offset: 1234)),
          .payloadBegins(length: Int64(Self.payload.count)), .payloadEnds,
        ], "cut at \(cut)")
      #expect(
        seen.sent == ["*5 $8 REPLCONF $4 capa $3 eof $4 capa $6 psync2", "*3 $5 PSYNC $1 ? $2 -1"], "cut at \(cut)")
      #expect(seen.position == ReplicationPosition(history: Self.id, offset: 1234 + Int64(Self.stream.utf8.count)))
    }
  }

  /// The mark may straddle two reads at any of its bytes. What follows it comes only after an acknowledgement.
  @Test func aPayloadWithAnEndMark() throws {
    let head = Array("+OK\r\n+FULLRESYNC \(Self.id) 0\r\n\n$EOF:\(Self.mark)\r\n".utf8)
    let bytes = head + Self.payload + Array(Self.mark.utf8)
    try Self.everyCut(bytes) { pieces, cut in
      let seen = try Self.run(pieces + [Array(Self.stream.utf8)])
      #expect(seen.payload == Self.payload, "cut at \(cut)")
      #expect(seen.stream == Array(Self.stream.utf8), "cut at \(cut)")
      #expect(seen.other.last == .payloadEnds)
    }
    // Two cuts at once around the end.
    for first in bytes.count - 60..<bytes.count - 1 {
      for second in first + 1..<bytes.count {
        let pieces = [Array(bytes[..<first]), Array(bytes[first..<second]), Array(bytes[second...])]
        let seen = try Self.run(pieces + [Array(Self.stream.utf8)])
        #expect(seen.payload == Self.payload && seen.stream == Array(Self.stream.utf8), "cut at \(first), \(second)")
      }
    }
  }

  /// The server goes on behind the mark at the first acknowledgement: none may go out before the mark was seen.
  @Test func acknowledgesOnlyBehindTheMark() throws {
    for (header, mark, early) in [
      ("$EOF:\(Self.mark)\r\n", Self.mark, false), ("$\(Self.payload.count)\r\n", "", true),
    ] {
      var machine = ReplicaStateMachine()
      _ = machine.start()
      _ = try machine.receive(ByteBuffer(string: "+OK\r\n+FULLRESYNC \(Self.id) 0\r\n"))
      #expect(!machine.mayAcknowledge)
      let rest = Array(header.utf8) + Self.payload + Array(mark.utf8)
      _ = try machine.receive(ByteBuffer(bytes: rest.dropLast()))
      #expect(machine.mayAcknowledge == early)
      _ = try machine.receive(ByteBuffer(bytes: rest.suffix(1)))
      #expect(machine.mayAcknowledge && machine.isStreaming)
    }
  }

  @Test func continuing() throws {
    let start = ReplicationPosition(history: Self.id, offset: 99)
    try Self.everyCut(Array("+OK\r\n+CONTINUE \(Self.other)\r\n\(Self.stream)".utf8)) { pieces, cut in
      let seen = try Self.run(pieces, resuming: start)
      #expect(seen.sent.last == "*3 $5 PSYNC $40 \(Self.id) $3 100")
      #expect(seen.other == [.continues(ReplicationPosition(history: Self.other, offset: 99))], "cut at \(cut)")
      #expect(seen.stream == Array(Self.stream.utf8))
    }
    #expect(try Self.run([Array("+OK\r\n+CONTINUE\r\n".utf8)], resuming: start).position == start)
  }

  @Test(arguments: [
    "-NOPERM this user has no permissions", "+OK\r\n-NOMASTERLINK Can't SYNC while not connected with my master",
    "+OK\r\n+FULLRESYNC abc 1", "+OK\r\n+FULLRESYNC", "+OK\r\n+HELLO", "+OK\r\n+CONTINUE", "+QUEUED",
    "+OK\r\n+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 1\r\n$-1",
    "+OK\r\n+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 1\r\n$EOF:short",
    "+OK\r\n+FULLRESYNC 0123456789abcdef0123456789abcdef01234567 1\r\n-ERR child died",
  ])
  func refusals(_ text: String) throws {
    let bytes = Array("\(text)\r\n".utf8)
    let error: DRError = try #require(throws: DRError.self) { _ = try Self.run([bytes]) }
    #expect(error.code == .sourceFailed || error.code == .malformedData)
    if text.contains("NOPERM") { #expect(error.redisError?.kind == "NOPERM") }
  }

  @Test func commandsAreFoundWithTheirPositions() throws {
    let text =
      "*1\r\n$5\r\nMULTI\r\n" + Self.stream + "*2\r\n$6\r\nselect\r\n$2\r\n15\r\n*1\r\n$4\r\nEXEC\r\n"
      + "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$0\r\n\r\n"
    let bytes = Array(text.utf8)
    func scan(_ pieces: [[UInt8]]) throws -> [String] {
      var scanner = ReplicationCommandScanner()
      var seen: [String] = []
      var start: Int64 = 0
      for piece in pieces {
        try piece.withUnsafeBytes { piece in
          try scanner.scan(piece) { command, size, end in
            start += Int64(size)
            seen.append("\(command) \(start)")
            #expect(scannerEnd(end, piece.count))
          }
        }
      }
      #expect(scanner.isAtBoundary && scanner.position == Int64(bytes.count))
      return seen
    }
    func scannerEnd(_ end: Int, _ count: Int) -> Bool { (1...count).contains(end) }
    let whole = try scan([bytes])
    #expect(
      whole == [
        "multi 15", "ping 29", "select(database: 0) 52", "other 79", "select(database: 15) 103", "exec 117",
        "replconf 154", "publish 184",
      ])
    for cut in 1..<bytes.count { #expect(try scan([Array(bytes[..<cut]), Array(bytes[cut...])]) == whole) }
    #expect(try scan(bytes.map { [$0] }) == whole)
    for broken in [
      "*0\r\n", "PING\r\n", "*1\r\n:3\r\n", "*1\r\n$3\r\nabcd\r\n", "*99999999999999999\r\n", "*-1\r\n", "\n",
    ] {
      #expect(throws: DRError.self, "\(broken.debugDescription)") {
        var scanner = ReplicationCommandScanner()
        try Array(broken.utf8).withUnsafeBytes { try scanner.scan($0) { _, _, _ in } }
      }
    }
  }
}
