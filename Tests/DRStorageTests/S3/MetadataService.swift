import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A stand-in for the metadata endpoints of a cloud's machines, which exist nowhere but there: answers requests on
/// loopback from a table. It stands in for no S3 server.
final class MetadataService: Sendable {
  struct Request: Sendable {
    var method: String
    var path: String
    var headers: [String: String]
  }

  typealias Answer = (status: Int, body: String)

  let address: String
  private let channel: any Channel
  private let recorder = Recorder()

  var requests: [Request] { recorder.seen.withLock { $0 } }

  static func with<Result>(
    _ answer: @escaping @Sendable (Request) -> Answer, _ body: (MetadataService) async throws -> Result
  ) async throws -> Result {
    let service = try await MetadataService(answer)
    do {
      let result = try await body(service)
      try await service.channel.close()
      return result
    } catch {
      try? await service.channel.close()
      throw error
    }
  }

  private init(_ answer: @escaping @Sendable (Request) -> Answer) async throws {
    let recorder = recorder
    channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .childChannelInitializer { channel in
        channel.pipeline.configureHTTPServerPipeline().flatMapThrowing {
          try channel.pipeline.syncOperations.addHandler(
            Handler { request in
              recorder.seen.withLock { $0.append(request) }
              return answer(request)
            })
        }
      }.bind(host: "127.0.0.1", port: 0).get()
    address = "http://127.0.0.1:\(channel.localAddress?.port ?? 0)"
  }

  private final class Recorder: Sendable {
    let seen = Mutex<[Request]>([])
  }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let answer: @Sendable (Request) -> Answer
    private var head: HTTPRequestHead?

    init(_ answer: @escaping @Sendable (Request) -> Answer) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head): self.head = head
      case .body: break
      case .end:
        guard let head else { return }
        var headers: [String: String] = [:]
        for header in head.headers { headers[header.name.lowercased()] = header.value }
        let reply = answer(Request(method: head.method.rawValue, path: head.uri, headers: headers))
        let status = HTTPResponseStatus(statusCode: reply.status)
        let fields = HTTPHeaders([("content-length", "\(reply.body.utf8.count)")])
        context.write(
          wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: status, headers: fields))), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: reply.body)))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
      }
    }
  }
}
