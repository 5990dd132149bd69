import DRPostgres

/// Writes WAL by hand: pages and records with right lengths, links and checksums.
struct WALWriter {
  private let size: WALSegmentSize
  private let number: UInt64
  private let identifier: UInt64
  private let timeline: UInt32
  private var bytes: [UInt8] = []
  private var previous: UInt64
  private var spare: Set<Int> = []

  init(size: WALSegmentSize, number: UInt64, identifier: UInt64, timeline: UInt32 = 1) {
    self.size = size
    self.number = number
    self.identifier = identifier
    self.timeline = timeline
    previous = number * UInt64(size.bytes) - 48
  }

  private var start: UInt64 { number * UInt64(size.bytes) }

  /// Where the next record would start, from the first segment's start on.
  var offset: Int { bytes.count }

  /// The first segment, zeroes behind what was written.
  var padded: [UInt8] { segment(number) }

  func segment(_ wanted: UInt64) -> [UInt8] {
    let part = bytes.dropFirst(Int(wanted - number) * size.bytes).prefix(size.bytes)
    return Array(part) + [UInt8](repeating: 0, count: size.bytes - part.count)
  }

  /// Whether a byte is padding, or in a field that nothing checks.
  func isSpare(_ place: Int) -> Bool { spare.contains(place) }

  mutating func record(payload: Int, info: UInt8 = 0, resourceManager: UInt8 = 10) {
    var body = [UInt8](repeating: 254, count: 1)
    append(UInt32(payload), to: &body)
    body += (0..<payload).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    write(body, info: info, resourceManager: resourceManager)
  }

  /// A commit with an origin, as a replicated transaction has. Returns its end.
  mutating func commit(microseconds: Int64) -> LSN {
    var body: [UInt8] = [253, 1, 0, 255, 8]
    append(UInt64(bitPattern: microseconds), to: &body)
    write(body, info: 0x80, resourceManager: 1)
    return LSN(start + UInt64(bytes.count))
  }

  /// What `pg_create_restore_point` writes. Returns where it starts.
  mutating func restorePoint(_ name: String, microseconds: Int64) -> LSN {
    var body: [UInt8] = [255, 72]
    append(UInt64(bitPattern: microseconds), to: &body)
    body += Array(name.utf8) + [UInt8](repeating: 0, count: 64 - name.utf8.count)
    write(body, info: 0x70, resourceManager: 0)
    return LSN(previous)
  }

  private mutating func write(_ body: [UInt8], info: UInt8, resourceManager: UInt8) {
    startPageIfNeeded(remaining: 0)
    let position = start + UInt64(bytes.count)
    var header: [UInt8] = []
    append(UInt32(24 + body.count), to: &header)
    append(UInt32(700), to: &header)
    append(previous, to: &header)
    header += [info, resourceManager, 0, 0]
    var crc = CRC32C()
    body.withUnsafeBytes { crc.update($0) }
    header.withUnsafeBytes { crc.update($0) }
    append(crc.value, to: &header)
    previous = position
    var rest = (header + body)[...]
    while !rest.isEmpty {
      startPageIfNeeded(remaining: rest.count)
      let room = 8192 - bytes.count % 8192
      bytes += rest.prefix(room)
      rest = rest.dropFirst(room)
    }
    while bytes.count % 8 != 0 {
      spare.insert(bytes.count)
      bytes.append(0)
    }
  }

  private mutating func startPageIfNeeded(remaining: Int) {
    guard bytes.count % 8192 == 0 else { return }
    let place = bytes.count
    let isLong = place % size.bytes == 0
    var header: [UInt8] = []
    append(UInt16(0xD110), to: &header)
    append(UInt16((remaining > 0 ? 1 : 0) | (isLong ? 2 : 0)), to: &header)
    append(timeline, to: &header)
    append(start + UInt64(place), to: &header)
    append(UInt32(remaining), to: &header)
    append(UInt32(0), to: &header)
    if isLong {
      append(identifier, to: &header)
      append(UInt32(size.bytes), to: &header)
      append(UInt32(8192), to: &header)
    }
    bytes += header
    // XLP_BKP_REMOVABLE and the flag of an overwritten record may be set on any page; padding follows the length, which
    // means nothing on a page that continues no record.
    spare.formUnion([place + 2] + (20..<24).map { place + $0 })
    if remaining == 0 { spare.formUnion((16..<20).map { place + $0 }) }
  }

  private func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
    withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
  }
}
