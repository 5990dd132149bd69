import DRCore
import DRRedis
import NIOCore
import NIOPosix

/// A real server, reached through a socket of its own, whose answer to a request for a full synchronisation is altered on
/// the way.
enum AlteringProxy {
  /// What goes to the replica instead of the line `+FULLRESYNC <id> <offset>`; and whether what the server sends behind it
  /// is kept from it.
  struct Alteration: Sendable {
    var line: @Sendable (_ id: String, _ offset: Int64) -> ByteBuffer
    var keepsTheRest = false
  }

  static func with<R: Sendable>(
    _ server: RedisConnectionSettings, in folder: String, _ alteration: Alteration,
    _ body: (RedisConnectionSettings) async throws -> R
  ) async throws -> R {
    let socket = folder + "/altered.sock"
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
            group.addTask { try? await serve(client, server, alteration) }
          }
        }
      }
    }
    do {
      let result = try await body(RedisConnectionSettings(socket: socket))
      serving.cancel()
      _ = await serving.result
      return result
    } catch {
      serving.cancel()
      _ = await serving.result
      throw error
    }
  }

  private static func serve(
    _ client: NIOAsyncChannel<ByteBuffer, ByteBuffer>, _ server: RedisConnectionSettings, _ alteration: Alteration
  ) async throws {
    let link = try await RedisLink.connect(to: server)
    defer { Task { await link.close() } }
    try await client.executeThenClose { inbound, outbound in
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
          for try await bytes in inbound { try await link.send(bytes, limit: .seconds(30)) }
        }
        group.addTask {
          var isSilent = false
          while true {
            for piece in try await link.receive(waiting: .seconds(1)) where !isSilent {
              guard let altered = alter(piece, alteration) else {
                try await outbound.write(piece)
                continue
              }
              isSilent = alteration.keepsTheRest
              try await outbound.write(altered)
            }
          }
        }
        defer { group.cancelAll() }
        try await group.next()
      }
    }
  }

  /// Nil if the line is not in it. The server writes it at once, so that no cut goes through it.
  private static func alter(_ piece: ByteBuffer, _ alteration: Alteration) -> ByteBuffer? {
    let mark = Array("+FULLRESYNC ".utf8)
    let bytes = Array(piece.readableBytesView)
    guard bytes.count > mark.count,
      let start = (0...bytes.count - mark.count).first(where: { Array(bytes[$0..<$0 + mark.count]) == mark }),
      let end = bytes[start...].firstIndex(of: 13)
    else { return nil }
    let words = String(decoding: bytes[start..<end], as: UTF8.self).split(separator: " ").map(String.init)
    guard words.count == 3, let offset = Int64(words[2]) else { return nil }
    var altered = ByteBuffer(bytes: bytes[..<start])
    altered.writeImmutableBuffer(alteration.line(words[1], offset))
    if !alteration.keepsTheRest { altered.writeBytes(bytes[(end + 2)...]) }
    return altered
  }
}
