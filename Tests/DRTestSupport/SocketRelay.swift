import DRCore
public import NIOCore
import NIOPosix

/// A real server behind a socket of ours: what goes each way passes a filter, so that it hears, or says, something else.
public enum SocketRelay {
  /// Takes from what has arrived what it can judge, and gives what goes on. What it leaves is there again when more has come.
  public typealias Filter = @Sendable (inout ByteBuffer) -> ByteBuffer

  @Sendable public static func unchanged(_ bytes: inout ByteBuffer) -> ByteBuffer {
    let all = bytes
    bytes.clear()
    return all
  }

  /// - Parameters:
  ///   - server: The server's Unix socket.
  ///   - socket: The one that is there while the body runs.
  ///   - questions: Makes the filter of a connection for what the client says; `answers` that for what the server says.
  public static func with<R: Sendable>(
    _ server: String, at socket: String, questions: @escaping @Sendable () -> Filter = { unchanged },
    answers: @escaping @Sendable () -> Filter = { unchanged }, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> R
  ) async throws -> R {
    let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .bind(unixDomainSocketPath: socket, cleanupExistingSocketFile: true) { channel in
        channel.eventLoop.makeCompletedFuture {
          try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
        }
      }
    let serving = Task {
      try await listener.executeThenClose { clients in
        try await withThrowingDiscardingTaskGroup { group in
          for try await client in clients {
            // A connection that ends is nobody's failure: both sides see it.
            group.addTask { try? await relay(client, server, questions(), answers()) }
          }
        }
      }
    }
    let result: R
    do {
      result = try await body()
    } catch {
      serving.cancel()
      _ = await serving.result
      throw error
    }
    serving.cancel()
    _ = await serving.result
    return result
  }

  private static func relay(
    _ client: NIOAsyncChannel<ByteBuffer, ByteBuffer>, _ server: String, _ questions: @escaping Filter,
    _ answers: @escaping Filter
  ) async throws {
    let upstream = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connect(unixDomainSocketPath: server) { channel in
        channel.eventLoop.makeCompletedFuture {
          try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
        }
      }
    try await upstream.executeThenClose { fromServer, toServer in
      try await client.executeThenClose { fromClient, toClient in
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask { try await pass(fromClient, toServer, questions) }
          group.addTask { try await pass(fromServer, toClient, answers) }
          defer { group.cancelAll() }
          try await group.next()
        }
      }
    }
  }

  private static func pass(
    _ from: NIOAsyncChannelInboundStream<ByteBuffer>, _ to: NIOAsyncChannelOutboundWriter<ByteBuffer>,
    _ filter: Filter
  ) async throws {
    var pending = ByteBuffer()
    for try await bytes in from {
      pending.writeImmutableBuffer(bytes)
      let passed = filter(&pending)
      if passed.readableBytes > 0 { try await to.write(passed) }
    }
  }
}
