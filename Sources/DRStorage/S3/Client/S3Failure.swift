import AsyncHTTPClient
package import DRCore
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// What a request came to that did not succeed: an answer of the server, or none.
package struct S3Failure: Error, Sendable, CustomStringConvertible {
  /// Nil: there was no answer.
  package var status: Int?
  /// The server's own word: `NoSuchKey`.
  package var code: String?
  /// The server's sentence, or what happened on the way. Shown to people; shortened, and without control characters.
  package var detail: String?
  package var requestID: String?
  /// In whole seconds.
  package var retryAfter: Int?
  /// The moment on the server's clock.
  package var serverDate: String?
  /// The region in which the bucket is, if the server says so.
  package var region: String?
  package var isTimeout = false
  package var cannotEverWork = false
  /// This attempt, or one before it, may have been carried out all the same.
  package var mayHaveActed = false
  /// An attempt was sent, and no whole answer came.
  package var wasLost: Bool
  package var attempts = 1

  package init(status: Int?, code: String? = nil, detail: String? = nil) {
    self.status = status
    self.code = code
    self.detail = detail.map(S3Failure.tame)
    wasLost = status == nil
  }

  /// An answer with an error's status, or an error's body.
  init(status: Int, headers: HTTPHeaders, body: ByteBuffer) {
    let element = body.readableBytes > 0 ? try? XMLReader.read(body) : nil
    let error = element?.name == "Error" ? element : nil
    self.init(status: status, code: error?.text("Code"), detail: error?.text("Message"))
    requestID = (error?.text("RequestId") ?? headers.first(name: "x-amz-request-id")).map(S3Failure.tame)
    retryAfter = headers.first(name: "retry-after").flatMap(Int.init)
    serverDate = headers.first(name: "date")
    region = (error?.text("Region") ?? headers.first(name: "x-amz-bucket-region")).map(S3Failure.tame)
    mayHaveActed = status >= 500
  }

  /// No answer, or half of one.
  init(_ error: any Error) {
    self.init(status: nil, detail: S3Failure.explain(error))
    let known = error as? HTTPClientError
    isTimeout = [.readTimeout, .writeTimeout, .connectTimeout, .deadlineExceeded, .tlsHandshakeTimeout].contains(known)
    let neverSent: [HTTPClientError] = [.connectTimeout, .tlsHandshakeTimeout, .getConnectionFromPoolTimeout]
    mayHaveActed = !(known.map(neverSent.contains) ?? false) && !(error is NIOConnectionError)
    if let known { cannotEverWork = [.invalidURL, .emptyHost, .emptyScheme].contains(known) }
    if case .handshakeFailed? = error as? NIOSSLError { cannotEverWork = true }
    if error is NIOSSLExtraError { cannotEverWork = true }
  }

  private static func explain(_ error: any Error) -> String {
    switch error {
    case let error as HTTPClientError: error.shortDescription
    case let error as NIOConnectionError:
      "no connection to \(error.host):\(error.port)" + (error.connectionErrors.first.map { ": \($0.error)" } ?? "")
    default: DRError.text(of: error)
    }
  }

  /// The whole folder at once: what lies beside the object is of the same backup.
  private static func thawAdvice(_ tier: String, _ key: String?) -> String {
    let folder = key.map { $0.split(separator: "/").dropLast().joined(separator: "/") + "/" } ?? "/"
    let what = folder == "/" ? key ?? "/" : folder
    func quoted(_ text: String) -> String { "'\(text.replacing("'", with: "'\\''"))'" }
    return "thaw it and what lies beside it, which takes hours: "
      + "dr-tier thaw --tier \(quoted(tier)) --days 7 --speed standard \(quoted(what)); then read it again"
  }

  /// The server's words, made safe to show.
  static func tame(_ text: String) -> String {
    String(
      String.UnicodeScalarView(text.unicodeScalars.prefix(300).map { $0.value < 0x20 || $0.value == 0x7F ? " " : $0 }))
  }

  // MARK: What to make of it

  /// Whether another attempt may go better.
  package var isTransient: Bool {
    if cannotEverWork { return false }
    guard let status else { return true }
    switch code {
    case "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeTooSkewed",
      "OperationAborted",
      "ConditionalRequestConflict", "ThrottlingException", "Throttling", "RequestThrottled", "ExpiredToken",
      "TokenRefreshRequired", "XMinioServerNotInitialized":
      return true
    case _ where isDamage: return true
    case "NotImplemented": return false
    default: return (status >= 500 && status != 501 && status != 507) || status == 429 || status == 408
    }
  }

  /// The bytes are not the ones that were stated: damaged on the way.
  package var isDamage: Bool {
    ["BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"].contains(code)
  }

  /// The server asks for less.
  package var isSlowDown: Bool {
    status == 503 || status == 429
      || ["SlowDown", "Throttling", "ThrottlingException", "RequestThrottled"].contains(code)
  }

  package var isPreconditionFailed: Bool { status == 412 || code == "PreconditionFailed" }

  package var isNotFound: Bool { status == 404 && code != "NoSuchBucket" }

  /// The option or the call is not there.
  package var isUnknownToServer: Bool { status == 501 || code == "NotImplemented" || status == 405 }

  package var description: String {
    var text: String
    if let status {
      text = "the server answered \(status)" + (code.map { " \(S3Failure.tame($0))" } ?? "")
    } else {
      text = isTimeout ? "the server did not answer in time" : "the connection failed"
    }
    if let detail, !detail.isEmpty { text += ": \(detail)" }
    if let requestID { text += " (request \(requestID))" }
    if attempts > 1 { text += ", after \(attempts) attempts" }
    return text
  }

  /// In the words of the contract.
  ///
  /// - Parameter writing: The request was to change something.
  package func translated(_ tier: String, key: String?, writing: Bool) -> DRError {
    func error(_ code: DRError.Code, _ message: String, _ advice: String? = nil) -> DRError {
      DRError(code, message, advice: advice, object: key, cause: self)
    }
    switch code {
    case "NoSuchBucket":
      return error(.tierUnavailable, "\(tier): there is no such bucket", "create it, or correct its name and endpoint")
    case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthorizationHeaderMalformed",
      "PermanentRedirect", "TemporaryRedirect":
      let place = region.map { "the bucket is in region \($0): is that the configured one? " } ?? ""
      return error(
        .tierUnavailable, "\(tier) does not accept the request's signature",
        place + "check access key, secret, session token, region and endpoint")
    case "InvalidObjectState":
      return error(
        .objectArchived, "the object is archived and cannot be read yet",
        S3Failure.thawAdvice(tier, key))
    case "NoSuchKey": return error(.objectNotFound, "there is no such object")
    case "QuotaExceeded", "EntityTooLarge", "InsufficientStorage", "XMinioStorageFull":
      return error(.noSpace, "\(tier) takes no more", "raise its quota, or prune")
    case "ObjectLocked", "InvalidRetentionPeriod":
      return error(.objectLocked, "the object is held by Object Lock", "wait until its retention ends")
    default: break
    }
    switch status {
    case 403? where writing:
      return error(
        .notWritable, "\(tier) may not be written with these credentials", "see the README for the permissions needed")
    case 403?, 401?:
      return error(
        .tierUnavailable, "\(tier) may not be read with these credentials",
        "see the README for the permissions needed: without s3:ListBucket an absent object is answered so too")
    case 507?: return error(.noSpace, "\(tier) takes no more", "raise its quota, or prune")
    case 400? where code == "XAmzContentSHA256Mismatch" || code == "BadDigest" || code == "InvalidDigest":
      return error(
        .corruptData, "\(tier) received other bytes than were sent", "try again; look at the network between")
    case 501?: return error(.unsupported, "\(tier) cannot do this")
    case 400? where !isTransient:
      return error(
        .tierUnavailable, "\(tier) refused the request",
        "see what the server says; check the bucket's name, the region, and what the configuration asks for"
          + (writing ? "" : "; what was put with SSE-C is read with its key alone"))
    default: break
    }
    if cannotEverWork {
      return error(
        .tierUnavailable, "\(tier) cannot be reached securely", "check the endpoint, and the certificate authority")
    }
    return error(
      isTimeout ? .timedOut : .tierUnavailable, "\(tier) cannot be used", "check network and server, then try again")
  }
}
