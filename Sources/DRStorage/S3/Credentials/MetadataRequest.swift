import AsyncHTTPClient
import DRCore
import Foundation
import NIOCore
import NIOHTTP1

/// One request to an endpoint that gives credentials: small, near, and quick or not there.
struct MetadataRequest {
  static let timeLimit = TimeAmount.seconds(3)
  static let answerLimit = 64 << 10

  var method: HTTPMethod = .GET
  var url: String
  var headers: [(name: String, value: String)] = []
  /// For errors: they show neither a header nor an answer, which may hold secrets.
  var purpose: String

  func send() async throws -> (status: Int, body: ByteBuffer) {
    var request = HTTPClientRequest(url: url)
    request.method = method
    request.headers = HTTPHeaders(headers)
    do {
      let response = try await HTTPClient.shared.execute(request, timeout: MetadataRequest.timeLimit)
      return (Int(response.status.code), try await response.body.collect(upTo: MetadataRequest.answerLimit))
    } catch {
      if Task.isCancelled { throw CancellationError() }
      throw DRError(
        .tierUnavailable, "\(purpose) did not answer", advice: "see whether this machine can reach it", cause: error)
    }
  }
}

/// The JSON of the container and the instance endpoints.
struct MetadataAnswer: Decodable {
  var accessKeyID: String
  var secretAccessKey: String
  var token: String?
  var expiration: String?

  enum CodingKeys: String, CodingKey {
    case accessKeyID = "AccessKeyId"
    case secretAccessKey = "SecretAccessKey"
    case token = "Token"
    case expiration = "Expiration"
  }

  static func credentials(_ answer: (status: Int, body: ByteBuffer), from purpose: String) throws -> S3Credentials {
    guard answer.status == 200 else {
      throw DRError(
        .tierUnavailable, "\(purpose) answered with status \(answer.status)",
        advice: "see whether a role is attached to this machine or container")
    }
    guard let decoded = try? JSONDecoder().decode(MetadataAnswer.self, from: Data(answer.body.readableBytesView)) else {
      throw DRError(.malformedData, "\(purpose) gave no credentials in the JSON that is expected of it")
    }
    return S3Credentials(
      accessKeyID: decoded.accessKeyID, secretAccessKey: decoded.secretAccessKey, sessionToken: decoded.token,
      expires: decoded.expiration.flatMap(Timestamp.parse))
  }
}
