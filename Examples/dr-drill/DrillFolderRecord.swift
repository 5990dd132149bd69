import DRCore
import Foundation

/// The files that a resumed drill goes on with, for their owner alone:
///
///     drill.json                 what the drill knows: its commit point, written once the disaster is over
///     system-<kind>.json         what was confirmed to each system's clients, before it
///     step-<step>.json           what each step measured and saw, before the journal says that it is done
///     journal                    which steps are done
struct DrillFolderRecord: Sendable {
  let path: String

  static let memory = "drill.json"

  static func system(_ component: Component) -> String { "system-\(component.kind.rawValue).json" }

  static func step(_ id: String) -> String { "step-\(id).json" }

  /// What the steps measured and saw, by step.
  func steps() throws -> [String: DrillRecord] {
    var records: [String: DrillRecord] = [:]
    for name in try names() where name.hasPrefix("step-") && name.hasSuffix(".json") {
      records[String(name.dropFirst(5).dropLast(5))] = try read(name, as: DrillRecord.self)
    }
    return records
  }

  var journal: String { file("journal") }

  func file(_ name: String) -> String { path + "/" + name }

  func holds(_ name: String) -> Bool { access(file(name), F_OK) == 0 }

  func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }

  /// When something was written last.
  var lastSeen: Date? {
    ((try? names()) ?? []).compactMap { name in
      (try? FileManager.default.attributesOfItem(atPath: file(name)))?[.modificationDate] as? Date
    }.max()
  }

  /// Writes a file whole and durably, or not at all.
  func write(_ value: some Encodable, as name: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    try write(encoder.encode(value), as: name)
  }

  func write(_ data: Data, as name: String) throws {
    func failed() -> DRError {
      DRError(
        .notWritable, "the drill's record cannot be written: \(String(cString: strerror(errno)))", object: file(name))
    }
    let new = file(".\(name).new")
    let descriptor = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw failed() }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    do {
      try handle.write(contentsOf: data)
      try handle.synchronize()
    } catch {
      throw failed()
    }
    guard rename(new, file(name)) == 0 else { throw failed() }
    let folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw failed() }
    defer { close(folder) }
    guard fsync(folder) == 0 else { throw failed() }
  }

  func read<Value: Decodable>(_ name: String, as type: Value.Type) throws -> Value {
    do {
      return try JSONDecoder().decode(type, from: read(name))
    } catch {
      throw DRError(
        .malformedData, "the drill's record cannot be read", advice: "begin anew", object: file(name), cause: error)
    }
  }

  func read(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: file(name))) }
}
