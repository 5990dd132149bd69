import DRCore
import NIOCore

/// One end with TLS and the other without: a server without waits for more of what it cannot read, and one with closes.
extension RedisLink {
  /// Waits until TLS stands, and looks meanwhile whether the server speaks it at all.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`.
  func agree(_ settings: RedisConnectionSettings) async throws {
    do {
      if try await isSecure(within: .milliseconds(500)) { return }
      if await Self.answersWithoutTLS(settings) {
        throw DRError(
          .sourceFailed, "the server at \(settings.address) speaks no TLS",
          advice: "write redis:// in place of rediss://, and no --ca, --cert and --key; or name its tls-port")
      }
      guard try await isSecure(within: settings.connectTimeout) else {
        throw DRError(
          .timedOut, "agreeing on TLS with \(settings.address) took longer than \(settings.connectTimeout)",
          advice: "see whether the server is stopped, and what else listens at this address")
      }
    } catch {
      await close()
      throw error
    }
  }

  private static func answersWithoutTLS(_ settings: RedisConnectionSettings) async -> Bool {
    var plain = settings
    (plain.tls, plain.connectTimeout) = (nil, .seconds(2))
    guard let link = try? await connect(to: plain) else { return false }
    try? await link.send(ByteBuffer(string: "PING\r\n"), limit: .seconds(1))
    let answer = try? await link.receive(waiting: .seconds(1))
    await link.close()
    return answer?.first?.readableBytesView.first.map { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "-") } ?? false
  }

  /// Whether a server that closed a connection without a word speaks TLS.
  static func answersWithTLS(_ settings: RedisConnectionSettings) async -> Bool {
    guard settings.tls == nil, case .tcp = settings.address else { return false }
    var secure = settings
    (secure.tls, secure.connectTimeout) = (RedisConnectionSettings.TLS(), .seconds(2))
    guard let link = try? await connect(to: secure, verifies: false) else { return false }
    await link.close()
    return true
  }
}
