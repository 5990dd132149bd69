import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore

/// A new local tier in a temporary folder.
func withLocalTier<R>(_ body: (LocalTier, _ path: String) async throws -> R) async throws -> R {
  try await withTemporaryFolder { folder in
    let path = folder + "/tier"
    return try await body(LocalTier(root: path, creating: true), path)
  }
}

extension StorageTier {
  @discardableResult
  func put(_ key: String, _ content: String, onlyIfAbsent: Bool = false) async throws -> ObjectInfo {
    try await put(ObjectKey(key), ByteStream(ByteBuffer(string: content)), PutOptions(onlyIfAbsent: onlyIfAbsent))
  }

  func text(_ key: String) async throws -> String { String(buffer: try await read(ObjectKey(key))) }

  func keys(_ prefix: String = "") async throws -> [String] { try await listAll(prefix: prefix).map(\.key.rawValue) }
}

/// Every file and folder below a path, as a person would find them.
func everything(in path: String) -> Set<String> {
  Set(FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? [])
}

/// Every file below a path, but for the tier's marker.
func files(in path: String) -> Set<String> {
  everything(in: path).filter {
    var isFolder: ObjCBool = false
    return $0 != ".dr-tier" && FileManager.default.fileExists(atPath: "\(path)/\($0)", isDirectory: &isFolder)
      && !isFolder.boolValue
  }
}

/// The code of the error that a body throws; nil if it throws none, or another kind.
func code(_ body: () async throws -> Void) async -> DRError.Code? {
  do {
    try await body()
    return nil
  } catch {
    return (error as? DRError)?.code
  }
}

let quiet = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })

extension Component {
  static func postgres(_ name: String) throws -> Component { try Component(.postgres, name) }
}

/// Gives what is in memory as a backup.
struct MemorySource: BackupSource {
  var component: Component
  var artifacts: [String: ByteBuffer]
  var recoveryPoint = RecoveryPoint(
    time: Date(timeIntervalSince1970: 1_790_000_000), position: "0/2000028", history: "1")
  var systemIdentifier = "7301"
  var changesFrom: RecoveryPoint?
  var properties: [String: JSONValue] = [:]
  /// Runs after everything was written.
  var afterwards: @Sendable (any BackupWriter) async throws -> Void = { _ in }

  func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (name, content) in artifacts {
        group.addTask {
          try await writer.write(
            name, ByteStream(TestData.pieces(of: content, upTo: 90_000)), expectedLength: Int64(content.readableBytes))
        }
      }
      try await group.waitForAll()
    }
    try await afterwards(writer)
    return Capture(
      recoveryPoint: recoveryPoint, changesFrom: changesFrom, method: .basebackup, serverVersion: "15.18",
      systemIdentifier: systemIdentifier,
      properties: properties)
  }

  static func sample(_ component: Component, seed: UInt64 = 1) -> MemorySource {
    MemorySource(
      component: component,
      artifacts: [
        "base.tar": TestData.rows(300_000, seed: seed), "backup_manifest": TestData.rows(900, seed: seed + 1),
      ])
  }
}

/// Small frames, so that a small artifact has several.
let smallFrames = Encoding(frameSize: 64 << 10)

extension Repository {
  /// Reads every artifact of a backup, checked.
  func contents(_ backup: BackupManifest) async throws -> [String: ByteBuffer] {
    let reader = reader(for: backup)
    var contents: [String: ByteBuffer] = [:]
    for artifact in backup.artifacts {
      contents[artifact.name] = try await reader.read(artifact).collect(limit: 1 << 30)
    }
    return contents
  }
}

/// A clock that a test sets.
final class TestClock: Sendable {
  private let moment: MutableBox<Date>

  init(_ text: String = "2026-11-23T02:00:00Z") {
    moment = MutableBox(Timestamp.parse(text) ?? .distantPast)
  }

  var now: @Sendable () -> Date {
    { [moment] in moment.value }
  }

  func advance(_ seconds: TimeInterval) { moment.withLock { $0 += seconds } }
}
