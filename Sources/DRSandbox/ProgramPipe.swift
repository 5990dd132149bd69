import DRCore
import Foundation
import NIOCore

/// One end of a connection with a program: what it writes is read in frames, what it reads is written. Blocking calls run on an
/// executor of its own, and none blocks for longer than a moment without looking whether the task was cancelled.
final class ProgramPipe: Sendable {
  private let descriptor: Int32
  private let program: String
  private let silence: Duration
  private let executor = BlockingExecutor(label: "program.pipe")

  /// As large as a frame of the pipeline.
  private static let frame = 1 << 20
  private static let moment: Int32 = 200

  init(_ descriptor: Int32, _ program: String, silence: Duration) {
    self.descriptor = descriptor
    self.program = program
    self.silence = silence
  }

  deinit { close(descriptor) }

  static func make() throws -> (reading: Int32, writing: Int32) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw failure("pipe") }
    // A program that is started right now beside this one may inherit them for the moment between the two calls; it is
    // started with everything closed that it was not given.
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    #if os(Linux)
      // F_SETPIPE_SZ: as much as an unprivileged process may have; less is only slower.
      _ = fcntl(ends[1], 1031, Int32(frame))
    #endif
    return (ends[0], ends[1])
  }

  static func makeSockets() throws -> (own: Int32, its: Int32) {
    var ends: [Int32] = [-1, -1]
    #if canImport(Darwin)
      guard socketpair(AF_UNIX, SOCK_STREAM, 0, &ends) == 0 else { throw failure("socketpair") }
      var on: Int32 = 1
      setsockopt(ends[0], SOL_SOCKET, SO_NOSIGPIPE, &on, socklen_t(MemoryLayout<Int32>.size))
      for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    #else
      guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
        throw failure("socketpair")
      }
    #endif
    return (ends[0], ends[1])
  }

  private static func failure(_ call: String) -> DRError {
    DRError(.programFailed, "\(call) failed: \(lastError())", advice: "see how many files this process has open")
  }

  /// The next frame, full unless it is the last one; nil at the end.
  func read() async throws -> ByteBuffer? {
    try await waiting { [descriptor, program] state in
      var buffer = state ?? ByteBufferAllocator().buffer(capacity: ProgramPipe.frame)
      while buffer.writableBytes > 0 {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard Foundation.poll(&poll, 1, ProgramPipe.moment) > 0 else { return (buffer, false) }
        var got = 0
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 1) { memory in
          got = Foundation.read(descriptor, memory.baseAddress, memory.count)
          return max(0, got)
        }
        if got == 0 { break }
        guard got > 0 || errno == EINTR || errno == EAGAIN else {
          throw DRError(.programFailed, "what \(program) writes cannot be read: \(lastError())")
        }
      }
      return (buffer, true)
    }.flatMap { $0.readableBytes > 0 ? $0 : nil }
  }

  /// Writes all of a buffer; false: the program reads no more.
  func write(_ buffer: ByteBuffer) async throws -> Bool {
    let rest = try await waiting(buffer) { [descriptor, program] state in
      var buffer = state ?? ByteBuffer()
      while buffer.readableBytes > 0 {
        var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard Foundation.poll(&poll, 1, ProgramPipe.moment) > 0 else { return (buffer, false) }
        let count = buffer.withUnsafeReadableBytes { bytes in
          #if canImport(Darwin)
            send(descriptor, bytes.baseAddress, bytes.count, MSG_DONTWAIT)
          #else
            send(
              descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
          #endif
        }
        guard count >= 0 else {
          if errno == EINTR || errno == EAGAIN { continue }
          if errno == EPIPE || errno == ECONNRESET { return (buffer, true) }
          throw DRError(.programFailed, "\(program) cannot be written to: \(lastError())")
        }
        buffer.moveReaderIndex(forwardBy: count)
        if buffer.readableBytes > 0, count > 0 { return (buffer, false) }
      }
      return (buffer, true)
    }
    return rest.map { $0.readableBytes == 0 } ?? true
  }

  /// The program reads the end.
  func endWriting() async {
    _ = try? await executor.run { [descriptor] in shutdown(descriptor, Int32(SHUT_WR)) }
  }

  /// Goes on with a piece of blocking work until it is done; each piece takes a moment at most.
  private func waiting(
    _ start: ByteBuffer? = nil, _ work: @escaping @Sendable (ByteBuffer?) throws -> (ByteBuffer, isDone: Bool)
  ) async throws -> ByteBuffer? {
    var state = start
    var deadline = ContinuousClock.now + silence
    while true {
      try Task.checkCancellation()
      let before = state?.readableBytes
      let (next, isDone) = try await executor.run { [state] in try work(state) }
      if isDone { return next }
      if next.readableBytes != before ?? 0 { deadline = .now + silence }
      guard ContinuousClock.now < deadline else {
        throw DRError(
          .timedOut, "\((program as NSString).lastPathComponent) stood still for \(silence)",
          advice: "see what it waits for in the server: pg_stat_activity, pg_locks")
      }
      state = next
    }
  }
}
