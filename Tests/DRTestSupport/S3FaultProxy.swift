import AsyncHTTPClient
import DRCore
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// Stands between a client and a real S3 server, and spoils the requests that a test chooses.
///
/// Everything else passes unchanged, the `Host` header too: so signatures stay right.
public final class S3FaultProxy: Sendable {
  public struct Request: Sendable {
    /// From 1, in the order in which requests came.
    public var number: Int
    public var method: String
    /// Path and query, as they were sent.
    public var uri: String
    public var headers: [(name: String, value: String)]

    /// What is asked for, in a word: `PUT`, `PUT part`, `POST complete`, `GET list`.
    public var operation: String {
      let query = uri.split(separator: "?", maxSplits: 1).dropFirst().first.map(String.init) ?? ""
      let names = Set(query.split(separator: "&").map { String($0.prefix { $0 != "=" }) })
      switch method {
      case "PUT" where names.contains("partNumber"): return "PUT part"
      case "PUT" where headers.contains(where: { $0.name.lowercased() == "x-amz-copy-source" }): return "PUT copy"
      case "POST" where names.contains("uploads"): return "POST create"
      case "POST" where names.contains("uploadId"): return "POST complete"
      case "POST" where names.contains("delete"): return "POST delete"
      case "POST" where names.contains("restore"): return "POST restore"
      case "DELETE" where names.contains("uploadId"): return "DELETE upload"
      case "GET" where names.contains("list-type"): return "GET list"
      case "GET" where names.contains("uploads"): return "GET uploads"
      case "GET" where names.contains("uploadId"): return "GET parts"
      default: return method
      }
    }
  }

  public enum Fault: Hashable, Sendable {
    /// The connection is closed; the server sees nothing of the request.
    case refuse
    /// No answer, for as long as the client waits; the server sees nothing.
    case stall
    /// The answer is this error; the server sees nothing.
    case answer(status: Int, code: String)
    /// The status says success and the body is this error; the server sees nothing.
    case errorInSuccess(code: String)
    /// The server acts, and the connection is closed.
    case loseAnswer
    /// The server acts, and answers so.
    case replaceAnswer(status: Int, code: String)
    /// The server acts, and half of its answer arrives.
    case truncateAnswer
    /// The server acts, half of its answer arrives, and then nothing, for as long as the client waits.
    case stallAnswer
    /// A bit of the request's body is another one when it arrives.
    case flipRequestBit
    /// A bit of the answer's body is another one when it arrives.
    case flipAnswerBit
  }

  public let endpoint: String
  private let channel: any Channel
  private let upstream: HTTPClient
  private let state: Mutex<State>
  private let box: Box

  private struct State {
    var requests: [Request] = []
    var plan: @Sendable (Request) -> Fault?
  }

  /// Every request so far.
  public var requests: [Request] { state.withLock { $0.requests } }

  /// Chooses what happens to the requests that follow.
  public func plan(_ plan: @escaping @Sendable (Request) -> Fault?) { state.withLock { $0.plan = plan } }

  /// Forgets the requests so far: the next one has number 1.
  public func forget() { state.withLock { $0.requests = [] } }

  /// Runs the body with a proxy before the server, and closes it.
  public static func with<Result>(
    _ server: S3TestServer, _ body: (S3FaultProxy) async throws -> Result
  ) async throws -> Result {
    let proxy = try await S3FaultProxy(server.endpoint)
    do {
      let result = try await body(proxy)
      await proxy.close()
      return result
    } catch {
      await proxy.close()
      throw error
    }
  }

  private init(_ target: String) async throws {
    var settings = HTTPClient.Configuration()
    settings.redirectConfiguration = .disallow
    settings.timeout.read = .seconds(60)
    settings.connectionPool.idleTimeout = .seconds(5)
    settings.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 64
    let upstream = HTTPClient(eventLoopGroup: .singletonMultiThreadedEventLoopGroup, configuration: settings)
    self.upstream = upstream
    let box = Box()
    self.box = box
    state = Mutex(State(plan: { _ in nil }))
    channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .serverChannelOption(.backlog, value: 256)
      .childChannelOption(.allowRemoteHalfClosure, value: false)
      .childChannelInitializer { channel in
        channel.pipeline.configureHTTPServerPipeline().flatMapThrowing {
          try channel.pipeline.syncOperations.addHandler(
            Collector { head, body, channel in
              guard let proxy = box.proxy.withLock({ $0 }) else { return channel.close(promise: nil) }
              Task { await proxy.handle(head, body, channel, target) }
            })
        }
      }.bind(host: "127.0.0.1", port: 0).get()
    endpoint = "http://127.0.0.1:\(channel.localAddress?.port ?? 0)"
    box.proxy.withLock { $0 = self }
  }

  private final class Box: Sendable {
    let proxy = Mutex<S3FaultProxy?>(nil)
  }

  private func close() async {
    try? await channel.close()
    box.proxy.withLock { $0 = nil }
    try? await upstream.shutdown()
  }

  // MARK: One request

  private func handle(_ head: HTTPRequestHead, _ body: ByteBuffer, _ client: any Channel, _ target: String) async {
    let fault = state.withLock { state -> Fault? in
      let request = Request(
        number: state.requests.count + 1, method: head.method.rawValue, uri: head.uri,
        headers: head.headers.map { ($0.name, $0.value) })
      state.requests.append(request)
      return state.plan(request)
    }
    switch fault {
    case .refuse:
      client.close(promise: nil)
    case .stall:
      return
    case .answer(let status, let code):
      await send(status, HTTPHeaders([("content-type", "application/xml")]), S3FaultProxy.error(code), head, client)
    case .errorInSuccess(let code):
      await send(200, HTTPHeaders([("content-type", "application/xml")]), S3FaultProxy.error(code), head, client)
    default:
      do {
        var answer = try await forward(head, fault == .flipRequestBit ? S3FaultProxy.flipped(body) : body, target)
        if fault == .flipAnswerBit { answer.body = S3FaultProxy.flipped(answer.body) }
        switch fault {
        case .loseAnswer: client.close(promise: nil)
        case .replaceAnswer(let status, let code):
          await send(status, HTTPHeaders([("content-type", "application/xml")]), S3FaultProxy.error(code), head, client)
        case .truncateAnswer, .stallAnswer:
          await send(answer.status, answer.headers, answer.body, head, client, half: true)
          if fault == .truncateAnswer { client.close(promise: nil) }
        default: await send(answer.status, answer.headers, answer.body, head, client)
        }
      } catch {
        client.close(promise: nil)
      }
    }
  }

  private func forward(
    _ head: HTTPRequestHead, _ body: ByteBuffer, _ target: String
  ) async throws -> (status: Int, headers: HTTPHeaders, body: ByteBuffer) {
    var request = HTTPClientRequest(url: target + head.uri)
    request.method = head.method
    for header in head.headers
    where !["content-length", "transfer-encoding", "connection", "expect"].contains(header.name.lowercased()) {
      request.headers.add(name: header.name, value: header.value)
    }
    if body.readableBytes > 0 || [.PUT, .POST].contains(head.method) { request.body = .bytes(body) }
    let answer = try await upstream.execute(request, timeout: .seconds(120))
    let content = try await answer.body.collect(upTo: 256 << 20)
    var headers = answer.headers
    headers.remove(name: "transfer-encoding")
    headers.remove(name: "connection")
    return (Int(answer.status.code), headers, content)
  }

  private func send(
    _ status: Int, _ given: HTTPHeaders, _ body: ByteBuffer, _ request: HTTPRequestHead, _ client: any Channel,
    half: Bool = false
  ) async {
    var headers = given
    if request.method != .HEAD, status != 204 {
      headers.replaceOrAdd(name: "content-length", value: "\(body.readableBytes)")
    }
    let head = HTTPResponseHead(version: .http1_1, status: HTTPResponseStatus(statusCode: status), headers: headers)
    client.write(HTTPServerResponsePart.head(head), promise: nil)
    if request.method != .HEAD {
      let part = half ? body.getSlice(at: body.readerIndex, length: body.readableBytes / 2) ?? body : body
      client.write(HTTPServerResponsePart.body(.byteBuffer(part)), promise: nil)
    }
    if half {
      client.flush()
      // What was written is on its way before the connection may be closed.
      try? await Task.sleep(for: .milliseconds(20))
    } else {
      try? await client.writeAndFlush(HTTPServerResponsePart.end(nil))
    }
  }

  private static func error(_ code: String) -> ByteBuffer {
    ByteBuffer(
      string:
        "<?xml version=\"1.0\"?><Error><Code>\(code)</Code><Message>made by the test</Message><RequestId>0</RequestId></Error>"
    )
  }

  private static func flipped(_ body: ByteBuffer) -> ByteBuffer {
    var copy = ByteBuffer(bytes: body.readableBytesView)
    guard copy.readableBytes > 0, let byte: UInt8 = copy.getInteger(at: copy.readableBytes / 2) else { return body }
    copy.setInteger(byte ^ 0x10, at: copy.readableBytes / 2)
    return copy
  }

  /// Gathers a request.
  private final class Collector: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let whole: @Sendable (HTTPRequestHead, ByteBuffer, any Channel) -> Void
    private var head: HTTPRequestHead?
    private var body = ByteBuffer()

    init(_ whole: @escaping @Sendable (HTTPRequestHead, ByteBuffer, any Channel) -> Void) { self.whole = whole }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head):
        self.head = head
        body = ByteBuffer()
      case .body(var piece): body.writeBuffer(&piece)
      case .end: if let head { whole(head, body, context.channel) }
      }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
  }
}
