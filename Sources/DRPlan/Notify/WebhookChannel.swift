import AsyncHTTPClient
import DRCore
import Foundation
import NIOCore
import NIOHTTP1

/// A webhook that takes Slack's format, `{"text": "…"}`, as Mattermost, Rocket.Chat and others do too.
public struct WebhookChannel: NotificationChannel {
  public let name: String
  private let url: SecretReference
  private let patience: Duration

  /// - Parameters:
  ///   - url: Where the address is: whoever has it can write there.
  ///   - patience: How long it may take.
  public init(_ name: String, url: SecretReference, patience: Duration = .seconds(10)) {
    self.name = name
    self.url = url
    self.patience = patience
  }

  public func send(_ announcement: Announcement) async throws {
    let address = try url.read()
    guard let parsed = URL(string: address), ["http", "https"].contains(parsed.scheme), parsed.host != nil else {
      throw DRError(.invalidConfiguration, "the webhook's address is no URL", object: "\(url)")
    }
    var request = HTTPClientRequest(url: address)
    request.method = .POST
    request.headers.add(name: "Content-Type", value: "application/json; charset=utf-8")
    request.body = .bytes(ByteBuffer(bytes: try Self.body(of: announcement)))
    var configuration = HTTPClient.Configuration()
    // Elsewhere it would arrive as a GET, without its text, and look as if it was taken.
    configuration.redirectConfiguration = .disallow
    let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    let status: UInt
    do {
      status = try await client.execute(request, timeout: TimeAmount(patience)).status.code
    } catch {
      try? await client.shutdown()
      try Task.checkCancellation()
      let what = (error as? HTTPClientError)?.shortDescription ?? DRError.text(of: error)
      throw DRError(
        .sourceFailed, "the webhook was not reached: \(what.replacing(address, with: "its address"))",
        advice: "see that it is up, and that its address is right", object: name)
    }
    try? await client.shutdown()
    guard (200..<300).contains(status) else {
      throw DRError(
        .sourceFailed, "the webhook answers \(status)", advice: "see whether its address is still valid", object: name)
    }
  }

  /// What has a meaning in Slack's format is text here: nobody is called by what a title says.
  static func body(of announcement: Announcement) throws -> Data {
    func plain(_ text: String) -> String {
      text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
    let to = announcement.audience.isEmpty ? "" : "\nTo: \(plain(announcement.audience.joined(separator: ", ")))"
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(["text": "*\(plain(announcement.subject))*\n\(plain(announcement.text))\(to)"])
  }
}
