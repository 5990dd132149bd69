import DRCore
import DRPlan
import Foundation
import PlatformSupport

/// What is known of one incident: a file beside its journal.
struct IncidentRecord: Codable, Sendable {
  var opened: DetectionState.Opened
  /// Nil: nobody knows since when it was so.
  var secondsToDetect: Double?
  var go: DetectionRules.Incident.Go
  var command: [String]
  var journal: String
  /// How its plan ended, where the watch carried it out; nil: not yet.
  var outcome: String?
  /// When everything that it is by was well again; nil: it is open.
  var closed: Date?
}

/// The incidents of one watch: what it must know when it is begun again.
///
/// One watch works in a folder: of two, each would carry out the same plan.
final class IncidentFolder: Sendable {
  private let path: String
  private let lock: FileHandle
  private let records: MutableBox<[String: IncidentRecord]>

  /// - Parameter waiting: Called once if another watch works in the folder, whose end is waited for.
  init(_ path: String, waiting: () -> Void) async throws {
    let path = path.absolutePath
    self.path = path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let descriptor = Foundation.open("\(path)/.watch.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      throw DRError(
        .notWritable, "the folder of the incidents cannot be written: \(String(cString: strerror(errno)))", object: path
      )
    }
    lock = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    var isSaid = false
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      if !isSaid { waiting() }
      isSaid = true
      try await Task.sleep(for: .seconds(1))
    }
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    var found: [String: IncidentRecord] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: path) where name.hasSuffix(".json") {
      do {
        let data = try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
        found[String(name.dropLast(5))] = try decoder.decode(IncidentRecord.self, from: data)
      } catch {
        throw DRError(
          .malformedData, "an incident's file cannot be read: whether it is open is not known",
          advice: "look at it, and move it away", object: "\(path)/\(name)", cause: error)
      }
    }
    records = MutableBox(found)
  }

  /// By their names: those of which not everything was well again.
  var open: [String: IncidentRecord] { records.value.filter { $0.value.closed == nil } }

  func journal(_ name: String) -> String { "\(path)/\(name).journal" }

  /// - Throws: ``DRError`` with `notWritable`; it is remembered nevertheless.
  func write(_ record: IncidentRecord, as name: String) throws {
    records.withLock { $0[name] = record }
    try store(record, name)
  }

  /// - Throws: As ``write(_:as:)``.
  func update(_ name: String, _ change: (inout IncidentRecord) -> Void) throws {
    let changed = records.withLock { records -> IncidentRecord? in
      guard var record = records[name] else { return nil }
      change(&record)
      records[name] = record
      return record
    }
    if let changed { try store(changed, name) }
  }

  private func store(_ record: IncidentRecord, _ name: String) throws {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let file = "\(path)/\(name).json"
    do {
      try encoder.encode(record).write(to: URL(fileURLWithPath: file), options: .atomic)
      chmod(file, 0o600)
    } catch {
      throw DRError(.notWritable, "the incident's file was not written", object: file, cause: error)
    }
  }
}
