import DRCore
import Foundation
import NIOCore

extension RabbitMQSandbox {
  /// Takes one message out of the first queue that has one, and does not put it back: to see that a verifier notices. Streams keep what
  /// they have, and are left out.
  ///
  /// - Returns: The queue, as `vhost/name`; nil: none holds a message.
  /// - Throws: ``DRError`` with `sourceFailed`.
  package nonisolated func loseMessage() async throws -> String? {
    let api = ManagementAPI(settings)
    let queues = (try await api.get("queues").array ?? []).compactMap(\.object)
    for queue in queues where queue["type"] != "stream" {
      guard let vhost = queue["vhost"]?.string, let name = queue["name"]?.string else { continue }
      let answer = try await api.post(
        "queues/\(ManagementAPI.escape(vhost))/\(ManagementAPI.escape(name))/get",
        ["count": 1, "ackmode": "ack_requeue_false", "encoding": "base64"])
      let taken = try JSONDecoder().decode(JSONValue.self, from: Data(answer.readableBytesView))
      if let messages = taken.array, !messages.isEmpty { return "\(vhost)/\(name)" }
    }
    return nil
  }
}
