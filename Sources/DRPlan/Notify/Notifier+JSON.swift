import DRCore
public import Foundation

/// Channels as a file names them; no secret is in it, only where one is.
///
///     {
///       "webhooks": [{"name": "incidents", "url": "env:SLACK_WEBHOOK"}],
///       "mail": [{"name": "mail", "from": "dr@example.com", "to": ["oncall@example.com"]}],
///       "files": [{"name": "log", "path": "/var/log/incidents"}]
///     }
extension Notifier {
  private struct Channels: Decodable {
    struct Webhook: Decodable {
      var name: String
      var url: String
      enum CodingKeys: String, CodingKey, CaseIterable { case name, url }
      init(from decoder: any Decoder) throws {
        let fields = try decoder.known(CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        url = try fields.decode(String.self, forKey: .url)
      }
    }

    struct Mail: Decodable {
      var name: String
      var command: [String]?
      var from: String
      var to: [String]
      enum CodingKeys: String, CodingKey, CaseIterable { case name, command, from, to }
      init(from decoder: any Decoder) throws {
        let fields = try decoder.known(CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        command = try fields.decodeIfPresent([String].self, forKey: .command)
        from = try fields.decode(String.self, forKey: .from)
        to = try fields.decode([String].self, forKey: .to)
      }
    }

    struct File: Decodable {
      var name: String
      var path: String
      enum CodingKeys: String, CodingKey, CaseIterable { case name, path }
      init(from decoder: any Decoder) throws {
        let fields = try decoder.known(CodingKeys.self)
        name = try fields.decode(String.self, forKey: .name)
        path = try fields.decode(String.self, forKey: .path)
      }
    }

    var webhooks: [Webhook]
    var mail: [Mail]
    var files: [File]
    enum CodingKeys: String, CodingKey, CaseIterable { case webhooks, mail, files }
    init(from decoder: any Decoder) throws {
      let fields = try decoder.known(CodingKeys.self)
      webhooks = try fields.decodeIfPresent([Webhook].self, forKey: .webhooks) ?? []
      mail = try fields.decodeIfPresent([Mail].self, forKey: .mail) ?? []
      files = try fields.decodeIfPresent([File].self, forKey: .files) ?? []
    }
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`: for a field that is not known, and a secret that stands there itself.
  public init(json: Data, object: String? = nil) throws {
    let channels: Channels
    do {
      channels = try JSONDecoder().decode(Channels.self, from: json)
    } catch let error as DecodingError {
      throw DRError(
        .invalidConfiguration, "the channels are not right: \(error.reason)",
        advice: "it is an object with webhooks, mail and files", object: object)
    }
    let all: [any NotificationChannel] =
      try channels.webhooks.map { WebhookChannel($0.name, url: try SecretReference($0.url)) }
      + channels.mail.map {
        try MailChannel($0.name, command: $0.command ?? ["/usr/sbin/sendmail", "-t", "-i"], from: $0.from, to: $0.to)
      } + channels.files.map { FileChannel($0.name, path: $0.path) }
    guard !all.isEmpty else {
      throw DRError(
        .invalidConfiguration, "there is no channel", advice: "name webhooks, mail or files", object: object)
    }
    self.init(all)
  }
}
