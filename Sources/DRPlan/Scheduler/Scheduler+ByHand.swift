package import DRCore
import DRStorage
package import Foundation
import NIOCore

/// What was run beside the schedules: a verification that a person ran is one too.
///
/// An object for each job, `schedules-by-hand/<name>/<SHA-256 of the job>.json`; nobody needs the lease for it, and the owner's
/// ``ScheduleBook`` stays the owner's.
extension Scheduler {
  private struct ByHand: Codable {
    var job: String
    var lastSuccess: Date
  }

  private static func prefix(_ name: String) -> String { "schedules-by-hand/\(name)/" }

  /// Notes that a job was run by hand, and succeeded. Durable when it returns.
  ///
  /// - Parameter moment: When it began.
  /// - Throws: As the tier's `put`.
  package static func note(byHand job: String, of name: String, at moment: Date, on tier: any StorageTier) async throws
  {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .secondsSince1970
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let data = try encoder.encode(ByHand(job: job, lastSuccess: moment))
    let key = try ObjectKey(prefix(name) + StreamDigest.hex(ByteBuffer(string: job)) + ".json")
    _ = try await tier.put(key, ByteStream(ByteBuffer(bytes: data)), PutOptions())
  }

  /// When the runs began that succeeded last, of those that were begun by hand, by their jobs' names.
  ///
  /// - Throws: As the tier's `list` and `get`; ``DRCore/DRError`` with `malformedData`.
  package static func byHand(of name: String, on tier: any StorageTier) async throws -> [String: Date] {
    var found: [String: Date] = [:]
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .secondsSince1970
    for object in try await tier.listAll(prefix: prefix(name)) {
      let buffer = try await tier.read(object.key, limit: 1 << 16)
      guard let note = try? decoder.decode(ByHand.self, from: Data(buffer.readableBytesView)) else {
        throw DRError(
          .malformedData, "what was run by hand cannot be read", advice: "remove it: it is noted anew by the next run",
          object: object.key.rawValue)
      }
      found[note.job] = note.lastSuccess
    }
    return found
  }
}
