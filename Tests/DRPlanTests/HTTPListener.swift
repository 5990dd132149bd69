import DRCore
import NIOCore
import NIOHTTP1
import NIOPosix

/// A real HTTP server on this host, which notes what it is sent, and answers as it is told.
final class HTTPListener: Sendable {
  enum Manner: Sendable {
    case answer(HTTPResponseStatus, location: String? = nil)
    /// Takes the request, and says nothing.
    case hang
    /// Begins an answer that never ends.
    case begin
  }

  struct Request: Sendable {
    var method: HTTPMethod
    var uri: String
    var type: String?
    var body: String
  }

  private let channel: any Channel
  private let noted: MutableBox<[Request]>

  var requests: [Request] { noted.value }
  var port: Int { channel.localAddress?.port ?? 0 }

  private init(_ channel: any Channel, _ noted: MutableBox<[Request]>) {
    self.channel = channel
    self.noted = noted
  }

  static func with<Result>(
    _ manner: Manner, isolation: isolated (any Actor)? = #isolation, _ body: (HTTPListener) async throws -> Result
  ) async throws -> Result {
    let noted = MutableBox<[Request]>([])
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.configureHTTPServerPipeline()
          try channel.pipeline.syncOperations.addHandler(Handler(manner: manner, noted: noted))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    do {
      let result = try await body(HTTPListener(channel, noted))
      try await channel.close()
      return result
    } catch {
      try? await channel.close()
      throw error
    }
  }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    let manner: Manner
    let noted: MutableBox<[Request]>
    var head: HTTPRequestHead?
    var body = ""

    init(manner: Manner, noted: MutableBox<[Request]>) {
      self.manner = manner
      self.noted = noted
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head): (self.head, body) = (head, "")
      case .body(let part): body += String(buffer: part)
      case .end:
        guard let head else { return }
        let request = Request(
          method: head.method, uri: head.uri, type: head.headers.first(name: "Content-Type"), body: body)
        noted.withLock { $0.append(request) }
        switch manner {
        case .hang: return
        case .begin:
          let answer = HTTPResponseHead(version: .http1_1, status: .ok, headers: ["Content-Length": "1000"])
          context.writeAndFlush(wrapOutboundOut(.head(answer)), promise: nil)
        case .answer(let status, let location):
          var headers: HTTPHeaders = ["Content-Length": "0"]
          if let location { headers.add(name: "Location", value: location) }
          let answer = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
          context.write(wrapOutboundOut(.head(answer)), promise: nil)
          context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }
      }
    }
  }
}
