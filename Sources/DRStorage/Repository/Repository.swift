public import DRCore

public import struct Foundation.Date

/// Backups of many components on one tier.
///
/// A backup exists if and only if its manifest does. What a crash leaves, step by step:
///
/// | after | is left | who cleans it |
/// | --- | --- | --- |
/// | marker put | the marker | ``cleanInterrupted(olderThan:logger:)`` |
/// | while an artifact is put | the marker, whole artifacts, an unfinished upload | the same (uploads by the tier's `removeAbandonedUploads`, which it calls) |
/// | every artifact is put and checked | the marker, whole artifacts | the same |
/// | manifest put (the commit) | a whole backup, and its marker | the same, the marker only |
/// | manifest read back, artifacts checked again | as before | as before |
/// | marker deleted | a whole backup | |
/// | delete: manifest removed (no backup any more) | artifacts without a manifest | the same |
/// | delete: some artifacts removed | the other artifacts | the same |
///
/// Nothing that a manifest needs is ever left to be cleaned: artifacts are durable before their manifest is put, and
/// a manifest is gone, durably, before its artifacts go. A backup that fails or is cancelled, but is not killed, removes
/// what it wrote itself, in that same order.
///
/// Two processes may use one tier at the same time. The marker, put only if absent, gives each backup an identity of
/// its own.
public struct Repository: Sendable {
  public let tier: any StorageTier
  public let layout: RepositoryLayout
  let now: @Sendable () -> Date
  /// How often a running backup shows that it lives.
  let heartbeat: Duration

  /// - Parameter now: The clock from which backups take their identity and the start and the end of their manifests.
  public init(
    tier: any StorageTier, layout: RepositoryLayout = .byKind, now: @escaping @Sendable () -> Date = { Date() }
  ) {
    self.init(tier: tier, layout: layout, now: now, heartbeat: .seconds(600))
  }

  package init(
    tier: any StorageTier, layout: RepositoryLayout, now: @escaping @Sendable () -> Date, heartbeat: Duration
  ) {
    self.tier = tier
    self.layout = layout
    self.now = now
    self.heartbeat = heartbeat
  }

  func folder(of component: Component) -> BackupFolder { BackupFolder(path: layout.folder(of: component)) }

  /// The folders that can hold backups, whoever's they are.
  func folders() async throws -> [BackupFolder] {
    let kinds = try await tier.folders(below: "").filter { (try? Component.Kind($0)) != nil }
    switch layout {
    case .byKind: return kinds.map { BackupFolder(path: $0) }
    case .byKindAndName:
      var folders: [BackupFolder] = []
      for kind in kinds {
        for name in try await tier.folders(below: "\(kind)/") where (try? Component(parsing: "\(kind)/\(name)")) != nil
        {
          folders.append(BackupFolder(path: "\(kind)/\(name)"))
        }
      }
      return folders
    }
  }
}

extension StorageTier {
  /// The names of the folders right below a prefix (empty, or with a slash at its end). Steps over what is in each, so
  /// that a change log of a million segments costs one call.
  package func folders(below prefix: String) async throws -> [String] {
    var names: [String] = []
    var after: ObjectKey?
    while let first = try await list(prefix: prefix, after: after, limit: 1).objects.first?.key {
      guard let rest = first.rest(after: prefix), let slash = rest.utf8.firstIndex(of: UInt8(ascii: "/")) else {
        after = first
        continue
      }
      let name = String(rest[..<slash])
      if names.last != name { names.append(name) }
      // "0" is what follows "/" in ASCII: every key in the folder comes before this one. Where that is too long for a
      // key, step by step is as right.
      after = (try? ObjectKey(prefix + name + "0")) ?? first
    }
    return names
  }
}
