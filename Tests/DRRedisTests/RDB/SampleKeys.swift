import DRTestSupport

/// Keys of every type in every encoding that Redis 7.0 writes.
enum SampleKeys {
  /// Fills a fresh server; database 0 gets most, database 5 and 9 a few.
  static func fill(_ server: LocalRedis) async throws {
    try await server.script(strings + lists + sets + sortedSets + hashes + streams + functions)
    try await server.script(["SET other 1", "SADD numbers 1 2 3", "SET timed x PX 8888888"], database: 5)
    try await server.script(["RPUSH list a b c"], database: 9)
  }

  private static func text(_ count: Int, _ seed: Int) -> String {
    var random = TestData.Random(seed: UInt64(seed))
    return String((0..<count).map { _ in Character(Unicode.Scalar(UInt8.random(in: 97...122, using: &random))) })
  }

  private static let strings: [String] = [
    "SET int8 12", "SET int8-negative -5", "SET int16 12345", "SET int16-negative -3000", "SET int32 1234567890",
    "SET int64 123456789012345678", "SET empty \"\"", "SET short hello", "SET binary \"\\x00\\xff\\x01\"",
    "SET \"binary\\x00key\\xfe\" value", "SET ключ значение", "SET 12345 integer-key", "SET -7 integer-key",
    "SET compressed \(String(repeating: "abc", count: 4000))", "SET \(String(repeating: "k", count: 300)) long-key",
    "SET \(text(300, 1)) uncompressed-key", "SET long \(text(70_000, 3))", "SETRANGE sparse 300000 x",
    "SET ttl value EX 100000", "SET ttl-ms value PX 99999999", "SET far value PXAT 9999999999999",
  ]

  private static let lists: [String] =
    [
      "RPUSH list-small a b 1 22 333 -5 70000 \(text(100, 2))", "RPUSH list-one \"\"",
      "RPUSH list-large-element \(text(20_000, 5)) small \(String(repeating: "z", count: 30_000))",
    ] + (0..<300).map { "RPUSH list-long element-\($0) \($0 * 1000) \(text(50, $0))" }

  private static let sets: [String] =
    [
      "SADD set-int16 1 2 3 -4", "SADD set-int32 1 100000 -70000", "SADD set-int64 1 10000000000",
      "SADD set-text a b c 1 2", "SADD set-one x",
    ] + (0..<600).map { "SADD set-large member-\($0)" } + (0..<600).map { "SADD set-large-int \($0 * 3)" }

  private static let sortedSets: [String] =
    ["ZADD zset-small 1 a 2.5 b -3 c inf d -inf e 1e300 f", "ZADD zset-one 0 \(text(200, 9))"]
    + (0..<200).map { "ZADD zset-large \($0).25 member-\($0)" } + ["ZADD zset-large inf top -inf bottom"]

  private static let hashes: [String] =
    ["HSET hash-small a 1 b two c \(text(60, 4)) d -9999999999", "HSET hash-long-value f \(text(500, 6))"]
    + (0..<600).map { "HSET hash-large field-\($0) value-\($0 * 17)" } + ["EXPIRE hash-small 50000"]

  private static let streams: [String] =
    (1...150).map { "XADD stream \($0)-1 name value-\($0) other \(text(40, $0))" } + [
      "XDEL stream 5-1 77-1", "XGROUP CREATE stream workers 0", "XGROUP CREATE stream idle $",
      "XREADGROUP GROUP workers alice COUNT 20 STREAMS stream >",
      "XREADGROUP GROUP workers bob COUNT 30 STREAMS stream >", "XACK stream workers 1-1 2-1",
      "XGROUP CREATECONSUMER stream workers carol", "XADD stream-emptied 1-1 a b", "XDEL stream-emptied 1-1",
      "XGROUP CREATE stream-new group $ MKSTREAM",
    ]

  private static let functions: [String] = [
    "FUNCTION LOAD \"#!lua name=one\\nredis.register_function('f1', function(k, a) return 1 end)\"",
    "FUNCTION LOAD \"#!lua name=two\\nredis.register_function('f2', function(k, a) return 'twotwotwotwotwo' end)\"",
  ]
}
