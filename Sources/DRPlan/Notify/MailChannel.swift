import DRCore
import DRSandbox
import Foundation
import NIOCore

/// Mail through a program that takes a message on its standard input, as every `sendmail` does.
public struct MailChannel: NotificationChannel {
  public let name: String
  private let command: [String]
  private let from: String
  private let to: [String]

  /// - Parameters:
  ///   - command: By its absolute path: `["/usr/sbin/sendmail", "-t", "-i"]`.
  ///   - from: An address, as the recipients.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for what is no address, and for a command without a path.
  public init(_ name: String, command: [String] = ["/usr/sbin/sendmail", "-t", "-i"], from: String, to: [String]) throws
  {
    guard command.first?.hasPrefix("/") == true else {
      throw DRError(.invalidConfiguration, "the mail program is named by its absolute path", object: name)
    }
    for address in [from] + to where address.wholeMatch(of: /[!-;=?-~]+@[!-;=?-~]+/) == nil {
      throw DRError(.invalidConfiguration, "'\(address.prefix(80).debugDescription)' is no mail address", object: name)
    }
    guard !to.isEmpty else { throw DRError(.invalidConfiguration, "the mail goes to nobody", object: name) }
    self.name = name
    self.command = command
    self.from = from
    self.to = to
  }

  public func send(_ announcement: Announcement) async throws {
    let message = Self.message(announcement, from: from, to: to, now: Date())
    _ = try await withOutput(
      of: command[0], Array(command.dropFirst()), input: ByteStream(ByteBuffer(string: message)), silence: .seconds(60)
    ) { output in
      for try await _ in output {}
    }
  }

  /// RFC 5322, with a body in base64: no line of it is too long, and none is a command.
  static func message(_ announcement: Announcement, from: String, to: [String], now: Date) -> String {
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = TimeZone(secondsFromGMT: 0)
    formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss '+0000'"
    let body = Data((announcement.text + "\n").utf8).base64EncodedString(options: [
      .lineLength76Characters, .endLineWithLineFeed,
    ])
    let audience =
      announcement.audience.isEmpty
      ? "" : "X-Audience: \(encoded(ReportWords.visible(announcement.audience.joined(separator: ", "))))\n"
    return """
      From: \(from)
      To: \(to.joined(separator: ",\n "))
      Subject: \(encoded(ReportWords.visible(announcement.subject)))
      Date: \(formatter.string(from: now))
      \(audience)MIME-Version: 1.0
      Content-Type: text/plain; charset=utf-8
      Content-Transfer-Encoding: base64

      \(body)

      """
  }

  /// RFC 2047: plain where it can be, else in encoded words, so that a line break in a title is no header.
  private static func encoded(_ text: String) -> String {
    let isPlain = text.utf8.count <= 60 && text.utf8.allSatisfy { (0x20...0x7E).contains($0) } && !text.contains("=?")
    guard !isPlain else { return text }
    var words: [String] = []
    var part: [UInt8] = []
    for character in text.unicodeScalars {
      let bytes = Array(String(character).utf8)
      if part.count + bytes.count > 42 {
        words.append("=?UTF-8?B?\(Data(part).base64EncodedString())?=")
        part = []
      }
      part += bytes
    }
    return (words + ["=?UTF-8?B?\(Data(part).base64EncodedString())?="]).joined(separator: "\n ")
  }
}
