import DRCore
import NIOCore
import NIOPosix
import Testing

/// A way to a broker that can keep back what clients have sent: a client is gone then, and the broker neither has the last of
/// what it sent nor sees its end.
struct HoldingRelay: Sendable {
  private typealias Link = NIOAsyncChannel<ByteBuffer, ByteBuffer>

  private struct State {
    var clients = 0
    /// Of these clients nothing goes on.
    var heldClients = 0
    var heldBytes = 0
  }

  let port: UInt16
  private let state = MutableBox(State())

  /// Opens a way to a port of this machine, runs the body, and closes it.
  static func with<R: Sendable>(to server: UInt16, _ body: (HoldingRelay) async throws -> R) async throws -> R {
    let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .bind(host: "127.0.0.1", port: 0) { channel in
        channel.eventLoop.makeCompletedFuture { try Link(wrappingChannelSynchronously: channel) }
      }
    let port = try #require(listener.channel.localAddress?.port.flatMap { UInt16(exactly: $0) })
    let relay = HoldingRelay(port: port)
    let serving = Task {
      try await listener.executeThenClose { clients in
        try await withThrowingDiscardingTaskGroup { group in
          for try await client in clients {
            let number = relay.state.withLock { state in
              state.clients += 1
              return state.clients
            }
            // A connection that ends is nobody's failure: both sides see it.
            group.addTask { try? await relay.pass(client, number, server) }
          }
        }
      }
    }
    let result: Result<R, any Error>
    do {
      result = .success(try await body(relay))
    } catch {
      result = .failure(error)
    }
    serving.cancel()
    _ = await serving.result
    return try result.get()
  }

  /// Keeps back, from now on, what those send that are connected now.
  func hold() { state.withLock { $0.heldClients = $0.clients } }

  /// Lets it go on, and the ends of those that are gone behind it.
  func release() { state.withLock { $0.heldClients = 0 } }

  /// Bytes that were kept back so far.
  var heldBytes: Int { state.value.heldBytes }

  private func isHeld(_ client: Int) -> Bool { client <= state.value.heldClients }

  private func pass(_ client: Link, _ number: Int, _ server: UInt16) async throws {
    let broker = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connect(host: "127.0.0.1", port: Int(server)) { channel in
        channel.eventLoop.makeCompletedFuture { try Link(wrappingChannelSynchronously: channel) }
      }
    try await broker.executeThenClose { fromBroker, toBroker in
      try await client.executeThenClose { fromClient, toClient in
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask {
            // Nobody hears it once the client is gone.
            for try await bytes in fromBroker { try? await toClient.write(bytes) }
          }
          group.addTask { try await send(fromClient, number, toBroker) }
          defer { group.cancelAll() }
          try await group.next()
        }
      }
    }
  }

  private func send(
    _ fromClient: NIOAsyncChannelInboundStream<ByteBuffer>, _ number: Int,
    _ toBroker: NIOAsyncChannelOutboundWriter<ByteBuffer>
  ) async throws {
    var kept: [ByteBuffer] = []
    func sendKept() async throws {
      for bytes in kept { try await toBroker.write(bytes) }
      kept = []
    }
    do {
      for try await bytes in fromClient {
        kept.append(bytes)
        if isHeld(number) {
          state.withLock { $0.heldBytes += bytes.readableBytes }
        } else {
          try await sendKept()
        }
      }
    } catch is IOError {
      // It did not end in good order, as one that is killed.
    }
    while isHeld(number) { try await Task.sleep(for: .milliseconds(20)) }
    try await sendKept()
    // All of it is out before the end.
    try await Task.sleep(for: .milliseconds(300))
  }
}
