package import NIOCore

/// Where a stream of changes can be cut: behind a whole command, outside of transactions. Pure.
package struct ChangeCut: Sendable {
  /// The last place, as an offset.
  package private(set) var offset: Int64
  /// Commands before it that change data.
  package private(set) var commands = 0
  private var scanner = ReplicationCommandScanner()
  private var isInTransaction = false
  private var commandsTaken = 0
  private let start: Int64
  /// Offsets of which somebody wants to know whether they are such places, in order.
  private var asked: ArraySlice<Int64>
  /// Those that are.
  package private(set) var found: Set<Int64> = []

  package init(at offset: Int64, asked: [Int64] = []) {
    (self.offset, start) = (offset, offset)
    self.asked = asked.sorted()[...]
  }

  /// Takes the bytes that follow.
  ///
  /// - Parameter limit: The offset that the place must not be beyond.
  /// - Throws: ``DRError`` with `malformedData`.
  package mutating func take(_ bytes: ByteBuffer, within limit: Int64 = .max) throws {
    var scanner = scanner
    let before = start + scanner.position + Int64(scanner.pending)
    try bytes.withUnsafeReadableBytes { raw in
      try scanner.scan(raw) { command, _, end in
        switch command {
        case .multi: isInTransaction = true
        case .exec: isInTransaction = false
        case .other: commandsTaken += 1
        default: break
        }
        let end = before + Int64(end)
        guard !isInTransaction, end <= limit else { return }
        (offset, commands) = (end, commandsTaken)
        while let next = asked.first, next <= end {
          if next == end { found.insert(next) }
          asked.removeFirst()
        }
      }
    }
    self.scanner = scanner
  }
}
