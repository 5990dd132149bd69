import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore
import Testing

@Suite struct ReplicaBacklogTests {
  private static func spool(_ memory: Int, _ file: Int64, _ folder: String) -> RedisSpool {
    var spool = RedisSpool()
    (spool.memory, spool.fileLimit, spool.folder) = (memory, file, folder)
    return spool
  }

  /// Pieces of a pattern in which each place is told from the others.
  private static func piece(_ number: Int, _ random: inout TestData.Random) -> ByteBuffer {
    var piece = ByteBuffer()
    for _ in 0..<Int.random(in: 1...4000, using: &random) { piece.writeInteger(UInt32(number)) }
    return piece
  }

  /// A consumer that stands still now and then: every byte comes, in its order and as what it was, and the memory's limit
  /// holds.
  @Test(arguments: [Int64(1 << 30), 300_000, 0])
  func everythingComesInItsOrder(file: Int64) async throws {
    try await withTemporaryFolder { folder in
      let backlog = ReplicaBacklog(Self.spool(64 << 10, file, folder), patience: .milliseconds(20))
      var random = TestData.Random(seed: 11)
      let payload = (0..<200).map { Self.piece($0, &random) }
      let stream = (0..<400).map { Self.piece($0, &random) }
      let adding = Task {
        for piece in payload { try await backlog.add(.payload(piece)) }
        try await backlog.add(.payloadEnds)
        for piece in stream { try await backlog.add(.stream(piece)) }
        backlog.end(DRError(.sourceFailed, "the end"))
      }
      var (gotPayload, gotStream) = (ByteBuffer(), ByteBuffer())
      var (hasEnded, most, last) = (false, Int64(0), Date.distantPast)
      let error = await #expect(throws: DRError.self) {
        while let (event, arrival) = try await backlog.next(waiting: .seconds(20)) {
          #expect(arrival.moment >= last)
          last = arrival.moment
          switch event {
          case .payload(let bytes):
            #expect(!hasEnded)
            gotPayload.writeImmutableBuffer(bytes)
          case .payloadEnds: hasEnded = true
          case .stream(let bytes):
            #expect(hasEnded)
            gotStream.writeImmutableBuffer(bytes)
          default: Issue.record("\(event)")
          }
          let size = backlog.size
          #expect(size.memory <= 64 << 10 && size.file <= file)
          most = max(most, size.file)
          if Int.random(in: 0..<40, using: &random) == 0 { try await Task.sleep(for: .milliseconds(60)) }
        }
      }
      #expect(error?.message == "the end")
      try await adding.value
      #expect(gotPayload == payload.reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1) })
      #expect(gotStream == stream.reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1) })
      #expect(file == 0 ? most == 0 : most > 100_000, "\(most)")
      #expect(backlog.size == (0, 0))
    }
  }

  /// A folder that cannot be written is no failure: the reader waits. Whoever waits is let go when the other has gone.
  @Test func whoWaitsIsLetGo() async throws {
    let backlog = ReplicaBacklog(Self.spool(1000, 1 << 30, "/nowhere"), patience: .zero)
    try await backlog.add(.payload(ByteBuffer(repeating: 1, count: 900)))
    let adding = Task { try await backlog.add(.payload(ByteBuffer(repeating: 2, count: 900))) }
    #expect(try await backlog.next(waiting: .seconds(5))?.event == .payload(ByteBuffer(repeating: 1, count: 900)))
    try await adding.value
    #expect(try await backlog.next(waiting: .seconds(5))?.event == .payload(ByteBuffer(repeating: 2, count: 900)))
    let begin = ContinuousClock.now
    let nothing = try await backlog.next(waiting: .milliseconds(50))
    #expect(nothing == nil && begin.duration(to: .now) >= .milliseconds(50))

    let waiting = Task { try await backlog.next(waiting: .seconds(60)) }
    try await Task.sleep(for: .milliseconds(20))
    waiting.cancel()
    await #expect(throws: CancellationError.self) { _ = try await waiting.value }

    try await backlog.add(.payload(ByteBuffer(repeating: 3, count: 900)))
    let stuck = Task { try await backlog.add(.payload(ByteBuffer(repeating: 4, count: 900))) }
    try await Task.sleep(for: .milliseconds(20))
    backlog.close()
    await #expect(throws: CancellationError.self) { try await stuck.value }
    await #expect(throws: CancellationError.self) { _ = try await backlog.next(waiting: .seconds(1)) }
  }
}
