import AsyncHTTPClient
package import DRCore
import Foundation
package import NIOCore
import NIOFoundationCompat
import NIOHTTP1
import NIOSSL

/// The broker's management API over HTTP.
///
/// An answer is read and parsed whole before it is trusted: a broker that dies in the middle of one is an error.
package struct ManagementAPI: Sendable {
  package let settings: RabbitMQSettings
  /// Bytes of an answer, at most.
  private static let answerLimit = 512 << 20

  package init(_ settings: RabbitMQSettings) { self.settings = settings }

  /// One for the process: a port that nobody listens on is said at once, and not asked again until the time is over.
  private static let client: HTTPClient = {
    var configuration = HTTPClient.Configuration()
    configuration.timeout.connect = .seconds(15)
    configuration.connectionPool.retryConnectionEstablishment = false
    return HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
  }()

  /// Gets the bytes of a JSON answer, which were seen to be whole JSON. Asks again, three times in all, where the broker fails.
  ///
  /// - Throws: ``DRError``: `sourceFailed` with the status under it, `timedOut`, `malformedData`.
  package func bytes(_ path: String) async throws -> (bytes: ByteBuffer, value: JSONValue) {
    var (status, body) = try await send(.GET, path, nil)
    // A broker that has too much to do gives up on its own statistics after five seconds.
    for pause in [1, 3] where [500, 502, 503, 504].contains(status) {
      try await Task.sleep(for: .seconds(pause))
      (status, body) = try await send(.GET, path, nil)
    }
    guard status == 200 else { throw refusal(status, body, "asking for \(path)") }
    do {
      return (body, try JSONDecoder().decode(JSONValue.self, from: Data(body.readableBytesView)))
    } catch {
      throw DRError(
        .malformedData, "the management API's answer is no whole JSON", advice: "see the broker's log, and try again",
        object: path, cause: error)
    }
  }

  package func get(_ path: String) async throws -> JSONValue { try await bytes(path).value }

  /// As ``get(_:)``; nil if there is no such thing.
  package func find(_ path: String) async throws -> JSONValue? {
    do {
      return try await get(path)
    } catch let error as DRError where error.rabbitMQCode == 404 {
      return nil
    }
  }

  package func put(_ path: String, _ body: JSONValue) async throws {
    try await change(.PUT, path, body)
  }

  @discardableResult
  package func post(_ path: String, _ body: JSONValue) async throws -> ByteBuffer {
    try await change(.POST, path, body)
  }

  /// Removes; what is not there is no error.
  package func delete(_ path: String) async throws {
    do {
      try await change(.DELETE, path, nil)
    } catch let error as DRError where error.rabbitMQCode == 404 {}
  }

  @discardableResult
  private func change(_ method: HTTPMethod, _ path: String, _ body: JSONValue?) async throws -> ByteBuffer {
    let (status, answer) = try await send(method, path, body)
    guard (200..<300).contains(status) else { throw refusal(status, answer, "\(method) of \(path)") }
    return answer
  }

  private func send(_ method: HTTPMethod, _ path: String, _ body: JSONValue?) async throws -> (Int, ByteBuffer) {
    guard !path.split(separator: "/").contains(where: { Self.isUnspeakable(String($0)) }) else {
      throw DRError(
        .unsupported,
        "the management API cannot be asked for what is named '.' or '..': in its paths these have a meaning",
        advice: "give it another name; a queue of that name can be dumped and restored nevertheless", object: path)
    }
    let scheme = settings.managementTLS == nil ? "http" : "https"
    let host = settings.host.contains(":") ? "[\(settings.host)]" : settings.host
    var request = HTTPClientRequest(url: "\(scheme)://\(host):\(settings.managementPort)/api/\(path)")
    request.method = method
    let credentials = Data("\(settings.user):\(settings.password)".utf8).base64EncodedString()
    request.headers.add(name: "Authorization", value: "Basic \(credentials)")
    if let body {
      request.headers.add(name: "Content-Type", value: "application/json")
      request.body = .bytes(ByteBuffer(data: try JSONEncoder().encode(body)))
    }
    if let tls = settings.managementTLS { request.tlsConfiguration = try configuration(tls) }
    do {
      let limit = settings.timeLimit
      return try await withTimeLimit(limit, "the management API at \(host):\(settings.managementPort)") {
        [request] in
        let response = try await Self.client.execute(request, timeout: .nanoseconds(limit.microseconds * 1000))
        let body = try await response.body.collect(upTo: Self.answerLimit)
        return (Int(response.status.code), body)
      }
    } catch let error as DRError {
      throw error
    } catch is CancellationError {
      throw CancellationError()
    } catch {
      try Task.checkCancellation()
      throw DRError(
        .sourceFailed, "the management API at \(host):\(settings.managementPort) could not be asked",
        advice: ManagementAPI.isOfTLS(error)
          ? "TLS: see that the port is the broker's port for TLS, name who signed its certificate (--ca-file), the host as the certificate has it, and this client's own one "
            + "if the broker asks for it (--client-certificate, --client-key)"
          : "see whether the broker runs with rabbitmq_management enabled, and which port it listens on"
            + (settings.managementTLS == nil
              ? "; a port for TLS needs to know who signed the broker's certificate (--ca-file)" : ""),
        object: path, cause: RabbitMQError(code: 0, text: DRError.text(of: error)))
    }
  }

  private static func isOfTLS(_ error: any Error) -> Bool {
    error is NIOSSLError || error is NIOSSLExtraError || error is BoringSSLError
  }

  private func configuration(_ tls: RabbitMQSettings.TLS) throws -> TLSConfiguration {
    do {
      var configuration = TLSConfiguration.makeClientConfiguration()
      configuration.trustRoots = .file(tls.rootCertificates)
      configuration.minimumTLSVersion = .tlsv12
      if let certificate = tls.certificate, let key = tls.privateKey {
        configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) }
        configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
      }
      return configuration
    } catch {
      throw DRError(
        .invalidConfiguration, "the TLS certificates for \(settings) cannot be used",
        advice: "see whether the files are there and hold PEM", cause: error)
    }
  }

  /// The broker says why as `{"error": …, "reason": …}`.
  private func refusal(_ status: Int, _ body: ByteBuffer, _ what: String) -> DRError {
    let answer = try? JSONDecoder().decode(JSONValue.self, from: Data(body.readableBytesView))
    let reason = answer?.object?["reason"]?.string ?? answer?.object?["error"]?.string ?? "no reason given"
    return DRError(
      RabbitMQError(code: status, text: String(reason.prefix(2000))), from: settings, doing: what)
  }

  /// Whether a name cannot be a part of a path, also not in an escaped form: a server resolves it.
  static func isUnspeakable(_ name: String) -> Bool { name == "." || name == ".." }

  /// A name as a part of a path.
  package static func escape(_ name: String) -> String {
    var text = ""
    for byte in name.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."),
        UInt8(ascii: "~"):
        text.append(Character(UnicodeScalar(byte)))
      default:
        let digits = Array("0123456789ABCDEF")
        text.append("%")
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
      }
    }
    return text
  }
}
