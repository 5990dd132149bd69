package import DRCore
package import DRStorage

package import struct Foundation.Date

/// What was seen of a repository and its copies, before anything of it is judged.
package struct VerificationFacts: Sendable {
  /// What came of looking at something.
  package enum Look: Sendable {
    case good
    /// What was seen is wrong.
    case damaged(DRError)
    /// It was to be looked at, and could not be.
    case obstructed(DRError)
    /// It was not looked at, and why.
    case notDone(String)
  }

  /// A manifest as one tier has it.
  package struct Manifest: Sendable {
    package var tier: Int
    package var backup: BackupManifest
    /// Where it lies.
    package var key: String
    /// Compared with its schema.
    package var schema: Look = .notDone("it was not read")
    /// Whether it is, byte for byte, what the repository has; nil: it is the repository's, or the repository has none.
    package var isSame: Bool?
  }

  /// An artifact or a segment on one tier.
  package struct Object: Sendable {
    package enum Presence: Sendable {
      case absent
      case there(size: Int64)
      case unknown(DRError)
    }

    package var tier: Int
    /// The backup or the log that it is a part of.
    package var owner: String
    package var key: ObjectKey
    /// As the manifest states it; nil for a segment.
    package var expectedSize: Int64?
    package var isSegment: Bool
    package var presence: Presence
    /// Of its first bytes.
    package var reading: Look = .notDone("it is not there")
    /// Of its stored bytes' SHA-256, or, for a segment, that of its raw ones.
    package var digest: Look = .notDone("it is not there")
    /// Of its frames and its encryption.
    package var codec: Look = .notDone("it is not there")

    /// For the subject of a finding.
    package func subject(_ tiers: [String]) -> String { "\(tiers[tier]): \(key)" }
  }

  package var now: Date
  package var component: Component?
  package var level: VerificationLevel
  /// The repository first, then its copies.
  package var tiers: [String]
  package var unreachable: [Int: DRError] = [:]
  /// The repository's, or those of the nearest copy if it cannot be reached.
  package var catalog: [BackupManifest] = []
  package var manifests: [Manifest] = []
  package var unreadable: [Int: [Catalog.Unreadable]] = [:]
  package var objects: [Object] = []
  package var sample: (chosen: Int, bytes: Int64)?
  package var status: ReplicationStatus

  package init(
    now: Date, component: Component?, level: VerificationLevel, tiers: [String], status: ReplicationStatus
  ) {
    self.now = now
    self.component = component
    self.level = level
    self.tiers = tiers
    self.status = status
  }

  /// Those that could be looked at.
  var reached: [Int] { tiers.indices.filter { unreachable[$0] == nil } }

  var components: [Component] {
    Set(catalog.map(\.component) + (component.map { [$0] } ?? [])).sorted { $0.description < $1.description }
  }
}
