import DRCore
import Foundation
import NIOCore
import NIOPosix

/// Listens on one address, for one connection; every further one is closed at once.
package final class RedisListener: Sendable {
  package let port: Int
  private let channel: any Channel
  private let accepted: BoundedChannel<RedisLink>

  private init(_ channel: any Channel, port: Int, accepted: BoundedChannel<RedisLink>) {
    self.channel = channel
    self.port = port
    self.accepted = accepted
  }

  /// - Parameter port: 0: any that is free.
  /// - Throws: ``DRError`` with `invalidConfiguration` if the address cannot be had.
  package static func listen(host: String, port: Int = 0) async throws -> RedisListener {
    let accepted = BoundedChannel<RedisLink>(capacity: 2)
    let isTaken = MutableBox(false)
    let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .serverChannelOption(.backlog, value: 1)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.autoRead, value: false)
      .childChannelOption(.maxMessagesPerRead, value: 4)
      .childChannelInitializer { channel in
        let isFirst = isTaken.withLock { taken in
          defer { taken = true }
          return !taken
        }
        guard isFirst else { return channel.close() }
        return channel.eventLoop.makeCompletedFuture {
          let inbound = LinkInbound()
          try channel.pipeline.syncOperations.addHandler(inbound)
          let peer = channel.remoteAddress.map { "\($0)" } ?? "the replica"
          let link = RedisLink(channel, NIOLoopBound(inbound, eventLoop: channel.eventLoop), peer: peer)
          Task { await accepted.send(link) }
        }
      }
    do {
      let channel = try await bootstrap.bind(host: host, port: port).get()
      return RedisListener(channel, port: channel.localAddress?.port ?? port, accepted: accepted)
    } catch {
      throw DRError(
        .invalidConfiguration, "cannot listen on \(host):\(port)",
        advice: "name an address of this host that the target can reach", cause: error)
    }
  }

  /// The one connection.
  ///
  /// - Throws: ``DRError`` with `timedOut`; `CancellationError`.
  package func accept(limit: Duration) async throws -> RedisLink {
    let link = try await withTimeLimit(
      limit, "waiting for the target to connect to port \(port)",
      advice: "see whether the target can reach this address, and its log"
    ) { [accepted] in try await accepted.receive() }
    guard let link else { throw CancellationError() }
    return link
  }

  /// Stops listening. The accepted connection stays.
  package func close() async {
    accepted.finish()
    let channel = channel
    await Task.detached { try? await channel.close() }.value
  }
}
