public import NIOCore

/// Mixed rows as a database holds them: numbers, timestamps, JSON with a random trace, words that repeat. The same on
/// every run, after the table `agent_data` of `pg-rows.sql`.
public struct RowData: Sendable {
  private static let kinds = ["step", "tool", "reply", "error"].map { Array($0.utf8) }
  private static let tools = ["search", "code", "browser", "sql"].map { Array($0.utf8) }
  private static let digits = Array("0123456789abcdef".utf8)

  private var state: UInt64
  private var row: UInt64 = 0
  private var rest = ByteBuffer()

  public init(seed: UInt64 = 1) { state = seed }

  /// The next so many bytes.
  public mutating func next(_ count: Int) -> ByteBuffer {
    var buffer = ByteBufferAllocator().buffer(capacity: count + 512)
    buffer.writeBuffer(&rest)
    while buffer.readableBytes < count { writeRow(&buffer) }
    let part = buffer.readSlice(length: count) ?? ByteBuffer()
    rest = buffer
    return part
  }

  /// So many bytes, in buffers of 1 MiB.
  public static func buffers(_ count: Int) -> [ByteBuffer] {
    var rows = RowData()
    var left = count
    var buffers: [ByteBuffer] = []
    while left > 0 {
      buffers.append(rows.next(min(left, 1 << 20)))
      left -= 1 << 20
    }
    return buffers
  }

  private mutating func writeRow(_ buffer: inout ByteBuffer) {
    row += 1
    decimal(row, &buffer)
    buffer.writeStaticString("\t")
    decimal(1 + random() % 200_000, &buffer)
    buffer.writeStaticString("\t2026-")
    pad(1 + random() % 12, &buffer)
    buffer.writeStaticString("-")
    pad(1 + random() % 28, &buffer)
    buffer.writeStaticString(" 12:")
    pad(random() % 60, &buffer)
    buffer.writeStaticString(":00.")
    decimal(100_000 + random() % 900_000, &buffer)
    buffer.writeStaticString("+00\t")
    buffer.writeBytes(RowData.kinds[Int(random() % 4)])
    buffer.writeStaticString("\t{\"step\": ")
    decimal(row, &buffer)
    buffer.writeStaticString(", \"tool\": \"")
    buffer.writeBytes(RowData.tools[Int(random() % 4)])
    buffer.writeStaticString("\", \"trace\": \"")
    hexadecimal(random(), &buffer)
    hexadecimal(random(), &buffer)
    buffer.writeStaticString("\", \"status\": \"ok\", \"tokens\": ")
    decimal(random() % 4000, &buffer)
    buffer.writeStaticString("}\t0.")
    decimal(random() >> 4, &buffer)
    buffer.writeStaticString("\t")
    for _ in 0...(random() % 3) {
      buffer.writeStaticString("lorem ipsum dolor ")
      decimal(row % 1000, &buffer)
    }
    buffer.writeStaticString("\n")
  }

  /// SplitMix64.
  private mutating func random() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  private func decimal(_ value: UInt64, _ buffer: inout ByteBuffer) {
    if value >= 10 { decimal(value / 10, &buffer) }
    buffer.writeInteger(UInt8(ascii: "0") + UInt8(value % 10))
  }

  private func pad(_ value: UInt64, _ buffer: inout ByteBuffer) {
    if value < 10 { buffer.writeStaticString("0") }
    decimal(value, &buffer)
  }

  private func hexadecimal(_ value: UInt64, _ buffer: inout ByteBuffer) {
    for shift in stride(from: UInt64(60), through: 0, by: -4) {
      buffer.writeInteger(RowData.digits[Int((value >> shift) & 15)])
    }
  }
}
