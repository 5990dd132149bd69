import DRCore
import DRRabbitMQ
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// The format, without a broker.
struct MessageArchiveTests {
  @Test("An archive of a tap keeps when each message came; one without is read as before")
  func arrivals() async throws {
    for records in [true, false] {
      let header = MessageArchive.Header(
        vhost: "/", queue: "q", type: "tap", durable: true, arguments: [:], broker: nil, brokerVersion: nil,
        captured: "")
      var writer = try MessageArchiveWriter(header, into: ByteBuffer(), recordsArrivals: records)
      let times = (0..<2500).map { (number: Int) -> ClosedRange<Int64> in
        let start = Int64(number / 7)
        return start...start + Int64(number % 2)
      }
      for time in times {
        writer.arrival = time
        try writer.add(
          ArchivedMessage(
            number: 0, redelivered: false, exchange: "", routingKey: ByteBuffer(),
            properties: ByteBuffer(integer: UInt16(0)), body: ByteBuffer(string: "b")), exchange: "x", routingKey: "k")
      }
      try writer.finish()
      var read: [ClosedRange<Int64>?] = []
      try await MessageArchiveReader.read(ByteStream(writer.buffer), object: "test") { event in
        if case .message(let message) = event { read.append(message.arrival) }
      }
      let expected: [ClosedRange<Int64>?] = times.map { records ? $0 : nil }
      #expect(read == expected)
    }
  }

  private static let header = MessageArchive.Header(
    vhost: "/", queue: "orders", type: "classic", durable: true, arguments: ["x-max-priority": 5], broker: "host",
    brokerVersion: "3.10.8", captured: "2026-11-24T12:00:00Z")

  private static func messages(_ count: Int) -> [ArchivedMessage] {
    TestBroker.numbered(0..<count) { number, properties in
      if number == 1 { properties.headers = everyFieldType }
    }
  }

  /// An archive as a dump writes it.
  private static func archive(_ messages: [ArchivedMessage]) throws -> ByteBuffer {
    var writer = try MessageArchiveWriter(header, into: ByteBuffer())
    for message in messages {
      try writer.add(message, exchange: "sales", routingKey: "order.\(message.number)")
    }
    try writer.finish()
    return writer.buffer
  }

  private static func read(_ bytes: ByteBuffer, pieces: Int? = nil) async throws -> [MessageArchiveReader.Event] {
    var events: [MessageArchiveReader.Event] = []
    let parts = pieces.map { TestData.pieces(of: bytes, upTo: $0) } ?? [bytes]
    try await MessageArchiveReader.read(ByteStream(parts), object: "test") { events.append($0) }
    return events
  }

  @Test("What is written is read, in pieces of any size", arguments: [nil, 1, 7, 1000])
  func roundTrip(pieces: Int?) async throws {
    let events = try await Self.read(Self.archive(Self.messages(40)), pieces: pieces)
    #expect(events.count == 42)
    guard case .header(Self.header) = events[0], case .end(let summary) = events[41] else {
      Issue.record("no header, or no end")
      return
    }
    #expect(summary.messages == 40)
    for (number, event) in events[1...40].enumerated() {
      guard case .message(let message) = event else { continue }
      #expect(message.number == UInt64(number) && message.text == "\(number)" && message.exchange == "sales")
      #expect(String(buffer: message.routingKey) == "order.\(number)")
      #expect(try message.decodedProperties().messageID == "m-\(number)")
    }
  }

  @Test("An archive that is cut off anywhere is never taken for a whole one")
  func truncated() async throws {
    let whole = try Self.archive(Self.messages(3))
    for length in 0..<whole.readableBytes {
      let part = try #require(whole.getSlice(at: 0, length: length))
      await expectError {
        try await Self.read(part)
      } matching: {
        ($0 as? DRError)?.code == .truncatedData
      }
    }
  }

  @Test("Changed bytes end in a clear error or in other values, never in a trap")
  func damaged() async throws {
    let whole = try Self.archive(Self.messages(3))
    var random = TestData.Random(seed: 3)
    for _ in 0..<3000 {
      var bytes = whole
      for _ in 0...Int.random(in: 0...2, using: &random) {
        bytes.setInteger(
          UInt8.random(in: 0...255, using: &random), at: Int.random(in: 0..<bytes.writerIndex, using: &random))
      }
      do {
        for event in try await Self.read(bytes) { _ = try MessageJSON.line(event) }
      } catch let error as DRError {
        #expect([.malformedData, .truncatedData, .unsupportedVersion].contains(error.code), "\(error)")
      }
    }
  }

  @Test("A later version is refused as such")
  func laterVersion() async throws {
    await expectError {
      try await Self.read(ByteBuffer(string: "DRRMQ3\r\nxxxx"))
    } matching: {
      ($0 as? DRError)?.code == .unsupportedVersion
    }
  }

  @Test("The format is as it is documented: another program reads it by its description")
  func documentedFormat() async throws {
    // Written from the documentation of MessageArchive alone.
    let program = """
      import json, struct, sys
      data = open(sys.argv[1], 'rb').read()
      assert data[:8] == b'DRRMQ1\\r\\n'
      place, seen, index, starts = 8, [], None, []
      while True:
          length, kind = struct.unpack('>IB', data[place:place + 5])
          rest = data[place + 5:place + 4 + length]
          if kind == ord('H'): header = json.loads(rest)
          if kind == ord('I'):
              index_start = place
              index = [x[0] for x in struct.iter_unpack('>Q', rest[4:])]
              interval = struct.unpack('>I', rest[:4])[0]
          if kind == ord('M'):
              starts.append(place)
              flags, number, size = struct.unpack('>BQB', rest[:10])
              exchange, rest = rest[10:10 + size], rest[10 + size:]
              key, rest = rest[1:1 + rest[0]], rest[1 + rest[0]:]
              size = struct.unpack('>I', rest[:4])[0]
              seen.append([number, flags, exchange.decode(), key.decode(), size, rest[4 + size:].decode()])
          place += 4 + length
          if kind == ord('E'):
              end = json.loads(rest); break
      assert struct.unpack('>Q', data[place:place + 8])[0] == index_start and data[place + 8:] == b'DRRMQEND'
      assert index == starts[::interval], (index, starts)
      print(json.dumps([header['queue'], end['messages'], seen[1500]]))
      """
    try await withTemporaryFolder { folder in
      let bytes = try Self.archive(Self.messages(2500))
      try Data(bytes.readableBytesView).write(to: URL(filePath: "\(folder)/archive"))
      let result = try await runCommand("python3", ["-c", program, "\(folder)/archive"])
      #expect(result.status == 0, "\(result.error)")
      let said = String(decoding: result.output, as: UTF8.self)
      #expect(
        said.hasPrefix(#"["orders", 2500, [1500, 0, "sales", "order.1500", "#) && said.contains(#""1500"]"#), "\(said)")
    }
  }

  @Test("JSON lines name every type")
  func jsonLines() async throws {
    let events = try await Self.read(Self.archive(Self.messages(2)))
    let lines = try events.map { String(buffer: try MessageJSON.line($0)) }
    #expect(lines.allSatisfy { $0.hasSuffix("\n") })
    let typed = lines[2]
    for part in [
      #""int16":{"int16":-1600}"#, #""decimal":{"decimal":{"scale":2,"value":12345}}"#, #""void":{"void":null}"#,
      #""bytes":{"bytes":"AP8K"}"#, #""body":"1""#, #""deliveryMode":2"#, #""uint32":{"uint32":4000000000}"#,
    ] { #expect(typed.contains(part), "\(typed)") }
    #expect(lines[0].contains(#""queue":"orders""#) && lines[3].contains(#""messages":2"#))
  }

  @Test("Fields that are nested without end are refused")
  func nesting() throws {
    var value = AMQPValue.void
    for _ in 0..<200 { value = .array([value]) }
    var buffer = ByteBuffer()
    value.encode(into: &buffer)
    #expect(throws: AMQPFormatError.self) { try AMQPValue(decoding: &buffer) }
  }

  @Test(
    "Patterns of queues",
    arguments: [
      ("*", "anything", true), ("a*c", "abbc", true), ("a*c", "abbd", false), ("a*b*c", "aXbYbc", true),
      ("abc", "abc", true),
      ("abc", "abcd", false), ("*.dlq", "orders.dlq", true), ("", "", true), ("a?", "ab", false),
    ])
  func patterns(pattern: String, name: String, matches: Bool) {
    let selection = RabbitMQQueueSelection(patterns: [pattern])
    #expect(selection.contains(vhost: "/", name: name, type: "classic", durable: true) == matches)
  }
}
