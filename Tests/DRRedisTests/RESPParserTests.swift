import DRCore
import DRRedis
import DRTestSupport
import NIOCore
import Testing

struct RESPParserTests {
  /// As a server of protocol 3 could send it: every type, nested, with attributes and pushes.
  private static let recorded =
    "+OK\r\n-ERR unknown command\r\n:-42\r\n$5\r\nhe\r\no\r\n$0\r\n\r\n$-1\r\n*-1\r\n_\r\n#t\r\n#f\r\n,3.25\r\n,inf\r\n"
    + "(3492890328409238509324850943850943825024385\r\n!21\r\nSYNTAX invalid syntax\r\n=15\r\ntxt:Some string\r\n"
    + "*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n~2\r\n+x\r\n:2\r\n%2\r\n+first\r\n:1\r\n+second\r\n%0\r\n"
    + "|1\r\n+key-popularity\r\n%1\r\n$1\r\na\r\n,0.19\r\n*2\r\n:2039123\r\n|1\r\n+ttl\r\n:3600\r\n:9543892\r\n"
    + ">3\r\n+message\r\n+channel\r\n$4\r\na\r\nb\r\n"

  private static let expected: [RESPValue] = [
    .simple("OK"), .error(RedisError("ERR unknown command")), .integer(-42), .bulk(ByteBuffer(string: "he\r\no")),
    .bulk(ByteBuffer()), .null, .null, .null, .boolean(true), .boolean(false), .double(3.25), .double(.infinity),
    .bigNumber("3492890328409238509324850943850943825024385"), .error(RedisError("SYNTAX invalid syntax")),
    .bulk(ByteBuffer(string: "Some string")),
    .array([.integer(1), .array([.bulk(ByteBuffer(string: "a")), .array([])]), .set([.simple("x"), .integer(2)])]),
    .map([
      RESPPair(key: .simple("first"), value: .integer(1)), RESPPair(key: .simple("second"), value: .map([])),
    ]),
    .array([.integer(2_039_123), .integer(9_543_892)]),
    .push([.simple("message"), .simple("channel"), .bulk(ByteBuffer(string: "a\r\nb"))]),
  ]

  private static func parse(_ pieces: [ByteBuffer]) throws -> [RESPValue] {
    var parser = RESPParser()
    var values: [RESPValue] = []
    for piece in pieces {
      parser.append(piece)
      while let value = try parser.next() { values.append(value) }
    }
    #expect(parser.isAtBoundary)
    return values
  }

  @Test func readsEveryTypeCutAtEveryPlace() throws {
    let all = ByteBuffer(string: Self.recorded)
    #expect(try Self.parse([all]) == Self.expected)
    for cut in 1..<all.readableBytes {
      var rest = all
      let first = rest.readSlice(length: cut)
      let head = try #require(first)
      #expect(try Self.parse([head, rest]) == Self.expected, "cut at \(cut)")
    }
    #expect(try Self.parse(all.readableBytesView.map { ByteBuffer(bytes: [$0]) }) == Self.expected)
  }

  @Test func readsWhatTheEncoderWrites() throws {
    var buffer = ByteBuffer()
    for value in Self.expected { buffer.writeRESP(value) }
    #expect(try Self.parse([buffer]) == Self.expected)
    var command = ByteBuffer()
    command.writeRESPCommand(["SET", "key", "", "12345678901234567890"])
    #expect(
      String(buffer: command) == "*4\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n$20\r\n12345678901234567890\r\n")
  }

  @Test(arguments: [
    "x\r\n", "\r\n", "+OK\n", ":12a\r\n", ":\r\n", "$-2\r\n", "$536870913\r\n", "$9223372036854775807\r\n",
    "$3\r\nabcd\r\n", "*99999999999999999999\r\n", "*16777217\r\n", "*-2\r\n", "#x\r\n", "#tt\r\n", ",abc\r\n",
    "(12x\r\n",
    "=2\r\nab\r\n", "$?\r\n", "_1\r\n", String(repeating: "*1\r\n", count: 33),
    "+" + String(repeating: "a", count: 70_000),
  ])
  func refusesWhatIsNotTheProtocol(_ text: String) throws {
    let error = try #require(throws: DRError.self) { _ = try Self.parse([ByteBuffer(string: text)]) }
    #expect(error.code == .malformedData)
  }

  /// Random damage never does more than give other values or an error.
  @Test func survivesDamage() throws {
    var random = TestData.Random(seed: 4)
    let original = Array(Self.recorded.utf8)
    var refused = 0
    for _ in 0..<20_000 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[at] = UInt8.random(in: .min ... .max, using: &random)
        case 1: bytes.remove(at: at)
        default: bytes.insert(UInt8.random(in: .min ... .max, using: &random), at: at)
        }
      }
      var parser = RESPParser()
      do {
        for piece in TestData.pieces(of: ByteBuffer(bytes: bytes), upTo: 40, seed: random.next()) {
          parser.append(piece)
          while try parser.next() != nil {}
        }
      } catch let error as DRError {
        #expect(error.code == .malformedData)
        refused += 1
      }
    }
    #expect(refused > 1000)
  }

  @Test func passwordsAreNeverShown() throws {
    var settings = RedisConnectionSettings(host: "cache", user: "backup", password: .value("geheim"))
    settings.tls = .init()
    var shown = "\(settings) \(String(reflecting: settings))"
    dump(settings, to: &shown)
    #expect(!shown.contains("geheim") && shown.contains("backup@cache:6379"))
    #expect(throws: DRError.self) { try RedisConnectionSettings(url: "redis://user:geheim@cache") }
    let parsed = try RedisConnectionSettings(url: "rediss://backup@[::1]:6380/3")
    #expect(parsed.address == .tcp(host: "::1", port: 6380) && parsed.database == 3 && parsed.tls != nil)
    // Cut to 16 bits, it would be another server's.
    for port in ["0", "65536", "100000"] {
      #expect(throws: DRError.self) { try RedisConnectionSettings(url: "redis://127.0.0.1:\(port)") }
    }
    #expect(try RedisConnectionSettings(url: "unix:///run/redis.sock").address == .unix(path: "/run/redis.sock"))
  }
}
