import DRCore
import DRStorage
import Foundation

/// Where each tablespace of a backup goes.
struct TablespacePlan: Sendable {
  /// The folder to write, by OID.
  let folders: [UInt32: String]
  private let created: MutableBox<[String]> = MutableBox([])
  private let markers: MutableBox<[String: RestoreMarker]> = MutableBox([:])
  private let published: MutableBox<[String]> = MutableBox([])

  /// Blocking.
  ///
  /// - Parameter mapping: New folders by the folders on the server that was backed up.
  /// - Throws: ``DRError``: `invalidConfiguration` for a mapping that names no tablespace of the backup, or gives two the
  ///   same folder; `malformedData`; `destinationInUse` for one that lies in a repository, in the data folder or around it.
  init(_ manifest: BackupManifest, mapping: [String: String], dataFolder: String) throws {
    var folders: [UInt32: String] = [:]
    var unused = Set(mapping.keys)
    for (text, value) in manifest.properties["tablespaces"]?.object ?? [:] {
      guard let oid = UInt32(text), let location = value.string, location.hasPrefix("/") else {
        throw DRError(.malformedData, "the manifest's list of tablespaces cannot be read", object: manifest.id)
      }
      unused.remove(location)
      folders[oid] = mapping[location] ?? location
    }
    // One that is named in vain, too: it was meant.
    for folder in Set(folders.values).union(mapping.values) {
      guard let tier = LocalTier.enclosing(folder) else { continue }
      throw DRError(
        .destinationInUse, "a tablespace would lie in the repository \(tier): nothing was touched",
        advice: "map it to a folder of its own", object: folder)
    }
    if let stray = unused.first {
      throw DRError(
        .invalidConfiguration, "the backup has no tablespace at \(stray)",
        advice: "it has \(folders.isEmpty ? "none" : folders.values.sorted().joined(separator: ", "))")
    }
    for folder in folders.values where !folder.hasPrefix("/") || folder.contains("\0") || folder.contains("\n") {
      throw DRError(.invalidConfiguration, "a tablespace's folder must be an absolute path", object: folder)
    }
    let data = URL(fileURLWithPath: dataFolder).resolvingSymlinksInPath().path + "/"
    for folder in folders.values {
      let place = URL(fileURLWithPath: folder).resolvingSymlinksInPath().path + "/"
      guard !place.hasPrefix(data), !data.hasPrefix(place) else {
        throw DRError(
          .destinationInUse, "a tablespace would lie in the data folder, or around it: nothing was touched",
          advice: "map it to a folder of its own", object: folder)
      }
    }
    guard Set(folders.values).count == folders.count else {
      throw DRError(.invalidConfiguration, "two tablespaces cannot share a folder")
    }
    self.folders = folders
  }

  /// Creates the folders, and in each the one that the restore writes into, marked.
  ///
  /// What a restore has left there that was killed is removed.
  ///
  /// - Throws: ``DRError`` with `destinationInUse` for one that holds anything else; nothing was touched then.
  func prepare(for backup: String, owner: FileOwner?) throws {
    for folder in folders.values { try refuse(folder) }
    for folder in folders.values {
      let staging = TablespacePlan.staging(folder)
      try? FileManager.default.removeItem(atPath: staging)
      if !FileManager.default.fileExists(atPath: folder) {
        do {
          try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
          throw DRError(.notWritable, "the folder of a tablespace cannot be created", object: folder, cause: error)
        }
        created.withLock { $0.append(folder) }
      }
      guard mkdir(staging, 0o700) == 0 else { throw FileError.make("mkdir", staging) }
      for path in [folder, staging] {
        if let owner, chown(path, owner.user, owner.group) != 0 { throw FileError.make("chown", path) }
      }
      let marker = try RestoreMarker(in: staging, backup: backup, owner: owner)
      markers.withLock { $0[folder] = marker }
    }
  }

  private func refuse(_ folder: String) throws {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    guard !names.isEmpty else { return }
    let staging = TablespacePlan.staging(folder)
    try RestoreMarker.refuseRunning(in: staging)
    // Beside anything else it says nothing of that: a server may use the folder by now.
    if names == [RestoreMarker.name], RestoreMarker.backup(leftIn: staging) != nil { return }
    throw DRError(
      .destinationInUse, "the folder of a tablespace holds something: nothing was touched",
      advice: "map it to an empty folder with --tablespace OLD=NEW, or empty this one if no server uses it",
      object: folder)
  }

  /// Where a tablespace is written until all of it is there: what a killed restore leaves is within, and nothing else is.
  static func staging(_ folder: String) -> String { "\(folder)/\(RestoreMarker.name)" }

  /// Puts every tablespace in its place, once the restore is whole but for its control file. Blocking.
  func publish() throws {
    for (folder, marker) in markers.value {
      let staging = TablespacePlan.staging(folder)
      for name in try FileManager.default.contentsOfDirectory(atPath: staging) where name != RestoreMarker.name {
        guard rename("\(staging)/\(name)", "\(folder)/\(name)") == 0 else {
          throw FileError.make("rename", "\(staging)/\(name)")
        }
        published.withLock { $0.append("\(folder)/\(name)") }
      }
      try marker.remove()
      guard rmdir(staging) == 0 else { throw FileError.make("rmdir", staging) }
      try RestoreMarker.sync(folder)
    }
  }

  /// Removes what a failed restore wrote.
  func discard() {
    for path in published.value { try? FileManager.default.removeItem(atPath: path) }
    for folder in markers.value.keys { try? FileManager.default.removeItem(atPath: TablespacePlan.staging(folder)) }
    for folder in created.value { rmdir(folder) }
  }

  /// Where a symbolic link of `base.tar` points after the restore; nil if it is no tablespace's.
  func target(of member: TarMember) throws -> String? {
    let parts = member.path.split(separator: "/")
    guard parts.count == 2, parts[0] == "pg_tblspc", let oid = UInt32(parts[1]) else { return nil }
    return folders[oid]
  }
}
