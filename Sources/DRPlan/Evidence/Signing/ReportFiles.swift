import DRCore
public import Foundation

/// A report as it lies in a history, or was taken out of one: its JSON, what was made of it for people, and the signature over all of it.
///
///     reports/00000042.json          the report
///     reports/00000042.html          one page for people
///     reports/00000042.md            for a ticket
///     reports/00000042.dsse.json     the signature, last
public struct ReportFiles: Sendable {
  /// `00000042`.
  public var name: String
  public var report: Data
  /// By ending: `html`, `md`.
  public var renderings: [String: Data]
  public var envelope: Data?

  public init(name: String, report: Data, renderings: [String: Data] = [:], envelope: Data? = nil) {
    self.name = name
    self.report = report
    self.renderings = renderings
    self.envelope = envelope
  }

  /// The files of a report, made and signed.
  ///
  /// - Throws: ``DRCore/DRError`` if it cannot be written or signed.
  public init(_ report: RunReport, name: String, signedBy key: ReportSigningKey?) throws {
    self.name = name
    self.report = try report.json()
    renderings = ["html": Data(report.html.utf8), "md": Data(report.markdown.utf8)]
    if let key { try sign(report, with: key) }
  }

  mutating func sign(_ report: RunReport, with key: ReportSigningKey) throws {
    let files =
      [("\(name).json", self.report)] + renderings.sorted { $0.key < $1.key }.map { ("\(name).\($0.key)", $0.value) }
    envelope = try SignedStatement(signing: try ReportStatement(report, files: files).json(), with: key).json()
  }

  /// Reads the files of reports.
  ///
  /// - Parameter path: Of a report (`…/00000042.json`), of its signature, or of a folder that holds such.
  /// - Returns: By name.
  /// - Throws: ``DRCore/DRError`` with `objectNotFound` if there is no report, or it cannot be read.
  public static func read(_ path: String) throws -> [ReportFiles] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw DRError(.objectNotFound, "there is no such report", object: path)
    }
    func load(_ file: String) throws -> Data {
      do {
        return try Data(contentsOf: URL(fileURLWithPath: file))
      } catch {
        throw DRError(.objectNotFound, "the report cannot be read", object: file, cause: error)
      }
    }
    func files(_ stem: String) throws -> ReportFiles {
      var files = ReportFiles(name: (stem as NSString).lastPathComponent, report: try load(stem + ".json"))
      for ending in ["html", "md"] where FileManager.default.fileExists(atPath: "\(stem).\(ending)") {
        files.renderings[ending] = try load("\(stem).\(ending)")
      }
      if FileManager.default.fileExists(atPath: stem + envelopeEnding) {
        files.envelope = try load(stem + envelopeEnding)
      }
      return files
    }
    guard isFolder.boolValue else {
      for ending in [envelopeEnding, ".json"] where path.hasSuffix(ending) {
        return [try files(String(path.dropLast(ending.count)))]
      }
      throw DRError(.objectNotFound, "a report's name ends with .json", object: path)
    }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    let stems = names.filter { $0.hasSuffix(".json") && !$0.hasSuffix(envelopeEnding) }.map { $0.dropLast(5) }.sorted()
    guard !stems.isEmpty else { throw DRError(.objectNotFound, "there is no report in the folder", object: path) }
    return try stems.map { try files("\(path)/\($0)") }
  }

  static let envelopeEnding = ".dsse.json"
}
