import AsyncHTTPClient
import DRCore
package import Foundation
import NIOCore
package import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// Sends requests to one bucket: signs them, tries them again, keeps to the limits. Knows nothing of tiers.
package final class S3Client: Sendable {
  package let configuration: S3Configuration
  private let endpoint: S3Endpoint
  private let http: HTTPClient
  private let credentials: S3CredentialsCache
  private let budget = RetryBudget()
  private let now: @Sendable () -> Date
  private let clock = ContinuousClock()

  private struct State {
    /// What the server's clock is ahead of ours.
    var skew: TimeInterval = 0
    /// Nothing is sent before: the server asked for less.
    var pausedUntil: ContinuousClock.Instant?
    /// When the bucket last answered with success.
    var seen: ContinuousClock.Instant?
  }

  private let state = Mutex(State())

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  package init(_ configuration: S3Configuration, now: @escaping @Sendable () -> Date = { Date() }) throws {
    self.configuration = configuration
    self.now = now
    endpoint = try S3Endpoint(configuration)
    credentials = S3CredentialsCache(configuration.credentials, now: now)
    var settings = HTTPClient.Configuration()
    settings.redirectConfiguration = .disallow
    settings.httpVersion = .http1Only
    settings.dnsOverride = configuration.addresses
    let stall = TimeAmount(configuration.stallLimit)
    settings.timeout = HTTPClient.Configuration.Timeout(connect: min(.seconds(10), stall), read: stall, write: stall)
    // Shorter than any server keeps an idle connection: one that the server closes at the same moment fails a request.
    settings.connectionPool = HTTPClient.Configuration.ConnectionPool(
      idleTimeout: .seconds(20), concurrentHTTP1ConnectionsPerHostSoftLimit: 64)
    settings.connectionPool.retryConnectionEstablishment = false
    if let path = configuration.certificateAuthority {
      var tls = TLSConfiguration.makeClientConfiguration()
      do {
        tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(path))
      } catch {
        throw DRError(
          .invalidConfiguration, "the certificates to trust cannot be read", advice: "they are a file in PEM form",
          object: path, cause: error)
      }
      settings.tlsConfiguration = tls
    }
    http = HTTPClient(eventLoopGroup: .singletonMultiThreadedEventLoopGroup, configuration: settings)
  }

  deinit {
    // Requests have ended: each holds this client. The closure keeps the HTTP client until its connections are closed.
    http.shutdown { _ in }
  }

  /// Sends a request until it succeeds, or until another attempt would make no sense or pass a limit.
  ///
  /// - Throws: ``S3Failure``; `CancellationError`; what the source of the credentials throws.
  package func send(_ request: S3Request) async throws -> S3Response {
    let start = clock.now
    let policy = configuration.retries
    var (attempts, mayHaveActed, wasLost, renewed) = (0, false, false, false)
    while true {
      attempts += 1
      try await waitForPause()
      let signer = try await credentials.credentials()
      do {
        var response = try await once(request, signer)
        budget.succeeded()
        state.withLock { $0.seen = clock.now }
        response.isRepeated = mayHaveActed
        return response
      } catch var failure as S3Failure {
        failure.attempts = attempts
        failure.mayHaveActed = failure.mayHaveActed || mayHaveActed
        mayHaveActed = failure.mayHaveActed
        failure.wasLost = failure.wasLost || wasLost
        wasLost = failure.wasLost
        // An answer to HEAD has no body that could say why.
        let isMute = request.method == .HEAD && failure.code == nil
        var isRenewal = false
        if ["ExpiredToken", "TokenRefreshRequired"].contains(failure.code) || (isMute && failure.status == 400) {
          if renewed { throw failure }
          (renewed, isRenewal) = (true, true)
          await credentials.refused(signer)
        }
        let mayBeSkewed = failure.code == "RequestTimeTooSkewed" || (isMute && failure.status == 403)
        let skewed = mayBeSkewed && correctClock(failure)
        guard failure.isTransient || skewed || isRenewal, attempts < policy.attempts,
          isRenewal || !(request.isAttempt && failure.status == 400)
        else {
          throw failure
        }
        var delay = policy.delay(afterFailures: attempts, chance: Double.random(in: 0...1))
        if skewed || isRenewal { delay = .zero }
        if failure.isSlowDown { delay = pause(failure, delay) }
        guard clock.now + delay - start <= policy.timeLimit, budget.take() else { throw failure }
        try await clock.sleep(for: delay)
      }
    }
  }

  /// Whether the bucket itself has answered a short while ago: then an answer of "not found" speaks of the object.
  package var wasSeenLately: Bool {
    state.withLock { state in state.seen.map { clock.now - $0 < .seconds(5) } ?? false }
  }

  /// The moment on the server's clock, as far as it is known.
  package var serverNow: Date { now() + state.withLock { $0.skew } }

  // MARK: One attempt

  private func once(_ request: S3Request, _ credentials: S3Credentials) async throws -> S3Response {
    let prepared = signed(request, credentials)
    do {
      let answer = try await http.execute(prepared, deadline: .now() + TimeAmount(longest))
      let status = Int(answer.status.code)
      let isError = !(200...299).contains(status)
      let body = try await read(answer, limit: isError ? 1 << 20 : request.answerLimit, head: request.method == .HEAD)
      if isError { throw S3Failure(status: status, headers: answer.headers, body: S3Response.joined(body)) }
      // Whatever changes something may be answered by an error under a status of success, and so with a body even where
      // a success has none.
      if request.mayFailInBody || (request.method != .GET && !body.isEmpty) {
        let document = try? XMLReader.read(S3Response.joined(body))
        if let document, document.name == "Error" {
          throw S3Failure.inBody(document, answer.headers)
        }
        // A success that cannot be read is none: the connection ended in the middle of it.
        if document == nil, request.mayFailInBody {
          var failure = S3Failure(status: nil, detail: "the answer ends in the middle")
          failure.mayHaveActed = true
          throw failure
        }
      }
      return S3Response(status: status, headers: answer.headers, body: body, isRepeated: false)
    } catch let failure as S3Failure {
      throw failure
    } catch let error as DRError {
      throw error
    } catch {
      if Task.isCancelled { throw CancellationError() }
      throw S3Failure(error)
    }
  }

  /// No attempt takes longer than this, however slowly the bytes drip.
  private var longest: Duration { max(.seconds(900), configuration.stallLimit * 4) }

  private func signed(_ request: S3Request, _ credentials: S3Credentials) -> HTTPClientRequest {
    let path = endpoint.path(request.key)
    let moment = serverNow
    var headers = request.headers.map { (name: $0.name.lowercased(), value: $0.value) }
    headers += [
      ("host", endpoint.host), ("x-amz-date", SigV4.timestamp(moment)), ("x-amz-content-sha256", request.body.sha256),
    ]
    if let token = credentials.sessionToken { headers.append(("x-amz-security-token", token)) }
    let signer = SigV4(credentials: credentials, region: configuration.region)
    let authorization = signer.authorization(
      for: SigV4.Request(
        method: request.method.rawValue, path: path, query: request.query, headers: headers,
        payloadHash: request.body.sha256), at: moment)
    var prepared = HTTPClientRequest(url: endpoint.url(path: path, query: SigV4.canonicalQuery(request.query)))
    prepared.method = request.method
    prepared.headers = HTTPHeaders(
      headers + [("authorization", authorization), ("user-agent", "swift-disaster-recovery")])
    if request.body.size > 0 {
      prepared.body =
        request.body.buffers.count == 1
        ? .bytes(request.body.buffers[0])
        : .stream(request.body.stream, length: .known(Int64(request.body.size)))
    } else if request.method == .PUT || request.method == .POST {
      prepared.body = .bytes(ByteBuffer())
    }
    return prepared
  }

  /// Gathers the pieces of a socket into buffers of up to 1 MiB: few, and full.
  private func read(_ answer: HTTPClientResponse, limit: Int, head: Bool) async throws -> [ByteBuffer] {
    if head { return [] }
    let stated = answer.headers.first(name: "content-length").flatMap(Int.init)
    if let stated, stated > limit { throw S3Failure.tooLarge(limit) }
    var (buffers, total) = ([ByteBuffer](), 0)
    var current = ByteBuffer()
    for try await var piece in answer.body {
      total += piece.readableBytes
      guard total <= limit else { throw S3Failure.tooLarge(limit) }
      while piece.readableBytes > 0 {
        if current.readableBytes == S3Client.bufferSize {
          buffers.append(current)
          current = ByteBuffer()
        }
        if current.capacity == 0 {
          let rest = stated.map { $0 - (total - piece.readableBytes) } ?? S3Client.bufferSize
          current = ByteBufferAllocator().buffer(capacity: min(max(rest, piece.readableBytes), S3Client.bufferSize))
        }
        let room = min(piece.readableBytes, S3Client.bufferSize - current.readableBytes)
        guard var part = piece.readSlice(length: room) else { break }
        current.writeBuffer(&part)
      }
    }
    if current.readableBytes > 0 { buffers.append(current) }
    if let stated, stated != total {
      var failure = S3Failure(status: nil, detail: "the answer has \(total) of \(stated) bytes")
      failure.mayHaveActed = true
      throw failure
    }
    return buffers
  }

  static let bufferSize = 1 << 20

  // MARK: Between attempts

  /// Takes the time of the server's refusal for right; false if it says none, or nearly ours.
  private func correctClock(_ failure: S3Failure) -> Bool {
    guard let date = failure.serverDate.flatMap(HTTPDate.parse) else { return false }
    let skew = date.timeIntervalSince(now())
    return state.withLock { state in
      defer { state.skew = skew }
      return abs(skew - state.skew) > 60
    }
  }

  /// Holds back every request for a while, and says for how long.
  private func pause(_ failure: S3Failure, _ delay: Duration) -> Duration {
    let asked = failure.retryAfter.map { Duration.seconds(max(0, min($0, 60))) } ?? .zero
    let wait = max(delay, asked, .milliseconds(100))
    state.withLock { $0.pausedUntil = max($0.pausedUntil ?? clock.now, clock.now + wait) }
    return wait
  }

  private func waitForPause() async throws {
    try Task.checkCancellation()
    guard let until = state.withLock({ $0.pausedUntil }), until > clock.now else { return }
    try await clock.sleep(until: until)
  }

  // MARK: Presigned URLs

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`; what the source of the credentials throws.
  package func presigned(_ method: HTTPMethod, _ key: String, validFor duration: Duration) async throws -> String {
    let seconds = Int(duration.components.seconds)
    guard (1...604_800).contains(seconds) else {
      throw DRError(.invalidConfiguration, "a presigned URL is valid for 1 second to 7 days, not for \(duration)")
    }
    let path = endpoint.path(key)
    let signer = SigV4(credentials: try await credentials.credentials(), region: configuration.region)
    let query = signer.presignedQuery(
      for: SigV4.Request(
        method: method.rawValue, path: path, headers: [("host", endpoint.host)], payloadHash: SigV4.unsignedPayload),
      at: serverNow, validFor: seconds)
    return endpoint.url(path: path, query: query)
  }
}

extension S3Failure {
  fileprivate static func tooLarge(_ limit: Int) -> S3Failure {
    var failure = S3Failure(status: nil, detail: "the answer is larger than the \(limit) bytes that were asked for")
    failure.cannotEverWork = true
    return failure
  }

  /// An error that came with the status of a success.
  fileprivate static func inBody(_ document: XMLElement, _ headers: HTTPHeaders) -> S3Failure {
    let code = document.text("Code")
    let status = ["InternalError": 500, "SlowDown": 503, "ServiceUnavailable": 503, "PreconditionFailed": 412][
      code ?? ""]
    var failure = S3Failure(status: status ?? 400, code: code, detail: document.text("Message"))
    failure.requestID = document.text("RequestId") ?? headers.first(name: "x-amz-request-id")
    failure.mayHaveActed = true
    return failure
  }
}
