import DRCore
import Foundation
package import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// A connection of bytes: what is received is pulled, and nothing is read ahead beyond a limit; every wait has an end.
///
/// One task receives; any may send.
package final class RedisLink: Sendable {
  private let channel: any Channel
  private let inbound: NIOLoopBound<LinkInbound>
  /// For people: the address at the other end.
  package let peer: String

  init(_ channel: any Channel, _ inbound: NIOLoopBound<LinkInbound>, peer: String) {
    self.channel = channel
    self.inbound = inbound
    self.peer = peer
  }

  /// What an error says of a connection that the other end has closed.
  static let closed = "the other end has closed the connection"

  /// Connects.
  ///
  /// - Parameter verifies: Whether the server's certificate matters.
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`, `invalidConfiguration` for TLS files that cannot be used.
  package static func connect(to settings: RedisConnectionSettings, verifies: Bool = true) async throws -> RedisLink {
    let secure = try settings.tls.map { tls in
      var configuration = try tls.configuration()
      if !verifies { configuration.certificateVerification = .none }
      return try NIOSSLContext(configuration: configuration)
    }
    let name = settings.tls?.serverName ?? settings.hostName
    let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connectTimeout(TimeAmount(settings.connectTimeout))
      .linkOptions()
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let secure {
            try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: secure, serverHostname: name))
          }
          try channel.pipeline.syncOperations.addHandler(LinkInbound())
        }
      }
    do {
      let channel =
        switch settings.address {
        case .tcp(let host, let port): try await bootstrap.connect(host: host, port: port).get()
        case .unix(let path): try await bootstrap.connect(unixDomainSocketPath: path).get()
        }
      let link = try await make(channel, peer: settings.address.description)
      if secure != nil { try await link.agree(settings) }
      return link
    } catch let error as ChannelError {
      if case .connectTimeout = error {
        throw DRError(
          .timedOut, "connecting to \(settings.address) took longer than \(settings.connectTimeout)",
          advice: "see whether the server runs and can be reached")
      }
      throw DRError(.sourceFailed, "no connection to \(settings.address)", cause: error)
    } catch let error as DRError {
      throw error
    } catch ChannelPipelineError.notFound {
      // It has ended before anybody could look, as it does when TLS is refused at once.
      throw DRError(
        .sourceFailed, Self.closed,
        advice: settings.tls == nil ? "see its log" : LinkInbound.adviceOfTLS)
    } catch {
      throw DRError(
        .sourceFailed, "no connection to \(settings.address)",
        advice: "see whether the server runs and can be reached", cause: error)
    }
  }

  /// Whether a host says that nobody listens at a port: not whether nothing was heard of it, nor whether it has hung up.
  static func isRefused(host: String, port: Int, within limit: Duration) async -> Bool {
    do {
      let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .connectTimeout(TimeAmount(limit))
      let channel = try await bootstrap.connect(host: host, port: port).get()
      try? await channel.close()
      return false
    } catch let error as NIOConnectionError {
      return !error.connectionErrors.isEmpty
        && error.connectionErrors.allSatisfy { ($0.error as? IOError)?.errnoCode == ECONNREFUSED }
    } catch let error as IOError {
      return error.errnoCode == ECONNREFUSED
    } catch {
      return false
    }
  }

  static func make(_ channel: any Channel, peer: String) async throws -> RedisLink {
    let inbound = try await channel.eventLoop.submit {
      NIOLoopBound(try channel.pipeline.syncOperations.handler(type: LinkInbound.self), eventLoop: channel.eventLoop)
    }.get()
    return RedisLink(channel, inbound, peer: peer)
  }

  /// Whether TLS stands.
  func isSecure(within limit: Duration) async throws -> Bool {
    let answer = channel.eventLoop.makePromise(of: Bool.self)
    channel.eventLoop.execute { [inbound] in inbound.value.whenSecure(TimeAmount(limit), answer) }
    return try await answer.futureResult.get()
  }

  /// What has come, or what comes next within the limit; nothing if nothing does.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` once the connection is closed and all that came was taken;
  ///   `CancellationError`.
  package func receive(waiting limit: Duration) async throws -> [ByteBuffer] {
    let ticket = channel.eventLoop.makePromise(of: [ByteBuffer].self)
    let inbound = inbound
    let isCancelled = MutableBox(false)
    return try await withTaskCancellationHandler {
      channel.eventLoop.execute {
        // Cancelled before it could wait: nobody would wake it.
        guard !isCancelled.value else { return ticket.fail(CancellationError()) }
        inbound.value.receive(TimeAmount(limit), ticket)
      }
      return try await ticket.futureResult.get()
    } onCancel: {
      isCancelled.withLock { $0 = true }
      channel.eventLoop.execute { inbound.value.giveUp(CancellationError()) }
    }
  }

  /// Sends, and waits until it has been handed to the system.
  ///
  /// - Throws: ``DRError``: `sourceFailed`; `timedOut`, after which the connection is closed.
  package func send(_ bytes: ByteBuffer, limit: Duration) async throws {
    let channel = channel
    let isLate = MutableBox(false)
    let late = channel.eventLoop.scheduleTask(in: TimeAmount(limit)) {
      isLate.withLock { $0 = true }
      channel.close(promise: nil)
    }
    defer { late.cancel() }
    do {
      try await withTaskCancellationHandler {
        try await channel.writeAndFlush(bytes)
      } onCancel: {
        channel.close(promise: nil)
      }
    } catch {
      try Task.checkCancellation()
      guard !isLate.value else {
        throw DRError(
          .timedOut, "sending to \(peer) took longer than \(limit)", advice: "see whether the server is stuck")
      }
      // Of one that had ended before, its end says why.
      let end = try? await channel.eventLoop.submit { [inbound] in inbound.value.ending }.get()
      throw DRError(
        .sourceFailed, "the connection to \(peer) broke", advice: end?.advice, cause: end?.cause ?? error)
    }
  }

  /// Closes. May be called again.
  package func close() async {
    let channel = channel
    await Task.detached { try? await channel.close() }.value
  }

  /// The port at this end.
  var localPort: Int? { channel.localAddress?.port }
}

extension ClientBootstrap {
  fileprivate func linkOptions() -> ClientBootstrap {
    channelOption(.autoRead, value: false)
      .channelOption(.maxMessagesPerRead, value: 4)
      .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: LinkInbound.readSize))
      .channelOption(.socketOption(.so_keepalive), value: 1)
  }
}

/// Keeps what came until it is asked for, and asks the socket for more only while that is little.
final class LinkInbound: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  static let readSize = 256 << 10
  /// Bytes that may wait here.
  private static let limit = 2 << 20

  private var context: ChannelHandlerContext?
  private var waiting: [ByteBuffer] = []
  private var size = 0
  private var end: (any Error)?
  var ending: DRError? { end as? DRError }
  private var isSecured = false
  private var secure: EventLoopPromise<Bool>?
  private var receiver: EventLoopPromise<[ByteBuffer]>?
  private var late: Scheduled<Void>?
  private var isReading = false

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    // Added after the connection was made, as with an accepted one.
    if context.channel.isActive { demand() }
  }

  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  func channelActive(context: ChannelHandlerContext) {
    context.fireChannelActive()
    demand()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = unwrapInboundIn(data)
    size += bytes.readableBytes
    guard bytes.readableBytes > 0 else { return }
    // A buffer is as large as a read can be: one with little in it is not kept.
    guard bytes.readableBytes < LinkInbound.readSize / 4 else { return waiting.append(bytes) }
    if let last = waiting.indices.last, waiting[last].readableBytes < LinkInbound.readSize / 4 {
      waiting[last].writeImmutableBuffer(bytes)
    } else {
      waiting.append(ByteBuffer(bytes: bytes.readableBytesView))
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    isReading = false
    deliver()
    demand()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if let event = event as? TLSUserEvent, case .handshakeCompleted = event {
      isSecured = true
      takeSecure()?.succeed(true)
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    end = end ?? DRError(.sourceFailed, "the connection broke", advice: Self.advice(for: error), cause: error)
    if let end { takeSecure()?.fail(end) }
    context.close(promise: nil)
    deliver()
  }

  func channelInactive(context: ChannelHandlerContext) {
    end = end ?? DRError(.sourceFailed, RedisLink.closed, advice: "see its log")
    if let end { takeSecure()?.fail(end) }
    deliver()
    context.fireChannelInactive()
  }

  /// Whether TLS stands within a limit.
  func whenSecure(_ limit: TimeAmount, _ promise: EventLoopPromise<Bool>) {
    guard !isSecured else { return promise.succeed(true) }
    guard let context, end == nil else {
      return promise.fail(
        end ?? DRError(.sourceFailed, RedisLink.closed, advice: Self.adviceOfTLS))
    }
    secure = promise
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    context.eventLoop.scheduleTask(in: limit) { bound.value.takeSecure()?.succeed(false) }
  }

  private func takeSecure() -> EventLoopPromise<Bool>? {
    defer { secure = nil }
    return secure
  }

  func receive(_ limit: TimeAmount, _ promise: EventLoopPromise<[ByteBuffer]>) {
    guard receiver == nil else {
      return promise.fail(DRError(.sourceFailed, "something else receives on this connection"))
    }
    receiver = promise
    // What came before the connection was closed is still to be had.
    deliver()
    guard receiver != nil else { return }
    guard let context else { return giveUp(end ?? DRError(.sourceFailed, "the connection is closed")) }
    demand()
    guard receiver != nil else { return }
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    late = context.eventLoop.scheduleTask(in: limit) { bound.value.timeOut() }
  }

  func giveUp(_ error: any Error) { take()?.fail(error) }

  private func timeOut() { take()?.succeed([]) }

  private func deliver() {
    guard !waiting.isEmpty || end != nil, let receiver = take() else { return }
    if waiting.isEmpty, let end { return receiver.fail(end) }
    let all = waiting
    waiting = []
    size = 0
    receiver.succeed(all)
  }

  private func take() -> EventLoopPromise<[ByteBuffer]>? {
    late?.cancel()
    late = nil
    defer { receiver = nil }
    return receiver
  }

  private func demand() {
    // A read that is asked for before the channel is active would be lost.
    guard !isReading, size < LinkInbound.limit, end == nil, let context, context.channel.isActive else { return }
    isReading = true
    context.read()
  }
}

extension RedisConnectionSettings {
  /// For the certificate: nil for an address or a socket, whose address is compared instead.
  fileprivate var hostName: String? {
    guard case .tcp(let host, _) = address else { return nil }
    return (try? SocketAddress(ipAddress: host, port: 0)) == nil ? host : nil
  }
}

extension LinkInbound {
  /// What TLS says of a certificate is no fault of the network.
  private static func advice(for error: any Error) -> String? {
    guard error is NIOSSLError || error is NIOSSLExtraError || error is BoringSSLError else { return nil }
    return adviceOfTLS
  }

  fileprivate static let adviceOfTLS =
    "TLS: name who signed the server's certificate (--ca), and this client's own one if the server asks for it (--cert, --key)"
}

extension RedisConnectionSettings.TLS {
  fileprivate func configuration() throws -> TLSConfiguration {
    var configuration = TLSConfiguration.makeClientConfiguration()
    do {
      if let authorityFile {
        configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(authorityFile))
      }
      if let certificateFile {
        configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(certificateFile).map { .certificate($0) }
      }
      if let keyFile { configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: keyFile, format: .pem)) }
    } catch {
      throw DRError(
        .invalidConfiguration, "a TLS file cannot be used", advice: "name certificates and a key in PEM",
        object: [authorityFile, certificateFile, keyFile].compactMap { $0 }.joined(separator: ", "), cause: error)
    }
    return configuration
  }
}
