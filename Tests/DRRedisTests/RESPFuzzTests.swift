import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Readers of the protocol under bytes that no server sends. `DR_FUZZ_COUNT` messages; a crash ends the test run.
struct RESPFuzzTests {
  private static let count = Int(ProcessInfo.processInfo.environment["DR_FUZZ_COUNT"] ?? "") ?? 20_000

  private static let seeds: [String] = [
    "+OK\r\n", "-ERR unknown command\r\n", ":-42\r\n", "$5\r\nhello\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "_\r\n",
    "#t\r\n",
    ",3.25\r\n", ",-inf\r\n", "(123456789012345678901234567890\r\n", "=7\r\ntxt:abc\r\n", "!9\r\nERR wrong\r\n",
    "*3\r\n$3\r\nfoo\r\n:1\r\n*2\r\n+a\r\n$-1\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n#f\r\n", "~2\r\n+a\r\n+b\r\n",
    "|1\r\n+ttl\r\n:3600\r\n+value\r\n", ">3\r\n+message\r\n+channel\r\n$2\r\nhi\r\n",
    "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n*1\r\n$4\r\nPING\r\n",
    "*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$4\r\nEXEC\r\n",
  ]

  private static let telling = [
    "$536870912\r\n", "$9223372036854775807\r\n", "$-9223372036854775808\r\n", "*16777216\r\n", "*2147483647\r\n",
    "%8388608\r\n",
    "*1\r\n*1\r\n*1\r\n*1\r\n", "\r\n", "\n", "\r", "$", "*", "%", "|1\r\n", "$0\r\n\r\n", "99999999999999999999",
  ].map { Array($0.utf8) }

  private static func mutate(_ random: inout TestData.Random) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      bytes += Array(seeds[Int.random(in: 0..<seeds.count, using: &random)].utf8)
    }
    for _ in 0..<Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
      let place = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0..<5, using: &random) {
      case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 2: bytes.remove(at: place)
      case 3: bytes.insert(contentsOf: telling[Int.random(in: 0..<telling.count, using: &random)], at: place)
      default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
      }
    }
    return bytes
  }

  @Test("Values are read, awaited or refused, and are the same wherever they are cut")
  func values() {
    var random = TestData.Random(seed: 3)
    var refused = 0
    for _ in 0..<RESPFuzzTests.count {
      let bytes = RESPFuzzTests.mutate(&random)
      let whole = RESPFuzzTests.read([ByteBuffer(bytes: bytes)])
      let cut = RESPFuzzTests.read(TestData.pieces(of: ByteBuffer(bytes: bytes), upTo: 7, seed: random.next()))
      #expect(whole.values == cut.values)
      #expect(whole.failed == cut.failed)
      if whole.failed { refused += 1 }
    }
    #expect(refused > 0 && refused < RESPFuzzTests.count)
    print("\(RESPFuzzTests.count) mutated messages: \(refused) refused")
  }

  private static func read(_ pieces: [ByteBuffer]) -> (values: [RESPValue], failed: Bool) {
    var parser = RESPParser()
    var values: [RESPValue] = []
    for piece in pieces {
      parser.append(piece)
      do {
        while let value = try parser.next() { values.append(value) }
      } catch {
        #expect((error as? DRError)?.code == .malformedData)
        return (values, true)
      }
    }
    return (values, false)
  }

  @Test("Commands of a stream are found, awaited or refused, and are the same wherever it is cut")
  func commands() {
    var random = TestData.Random(seed: 4)
    var refused = 0
    for _ in 0..<RESPFuzzTests.count {
      let bytes = RESPFuzzTests.mutate(&random)
      let whole = RESPFuzzTests.scan([ByteBuffer(bytes: bytes)])
      let cut = RESPFuzzTests.scan(TestData.pieces(of: ByteBuffer(bytes: bytes), upTo: 7, seed: random.next()))
      #expect(whole.commands == cut.commands)
      #expect(whole.failed == cut.failed)
      if whole.failed { refused += 1 }
    }
    #expect(refused > 0 && refused < RESPFuzzTests.count)
  }

  private static func scan(_ pieces: [ByteBuffer]) -> (commands: [ReplicationCommand], failed: Bool) {
    var scanner = ReplicationCommandScanner()
    var commands: [ReplicationCommand] = []
    for piece in pieces {
      do {
        try piece.withUnsafeReadableBytes { bytes in
          try scanner.scan(bytes) { command, _, _ in commands.append(command) }
        }
      } catch {
        #expect((error as? DRError)?.code == .malformedData)
        return (commands, true)
      }
    }
    return (commands, false)
  }
}
