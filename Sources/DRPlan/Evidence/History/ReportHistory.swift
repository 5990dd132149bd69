public import DRCore
import DRStorage
import Foundation
import NIOCore

/// The reports of a platform, kept in its repository as one chain (``ReportFiles``): each names the SHA-256 of the one before it.
///
/// | a crash after | leaves |
/// | --- | --- |
/// | the report's JSON (a put only if it is absent: it decides which report has the number) | a report that is not signed: ``sign(_:with:)`` |
/// | what is made of it for people | the same |
/// | the signature | everything |
public struct ReportHistory: Sendable {
  private let tier: any StorageTier

  public init(on tier: any StorageTier) { self.tier = tier }

  static let prefix = RepositoryLayout.reports

  /// One report as it was found.
  public struct Entry: Sendable {
    public var number: Int
    /// Nil for one that cannot be read.
    public var report: RunReport?
    public var isSigned: Bool
  }

  private static func name(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 8 - digits.count)) + digits
  }

  private func key(_ name: String, _ ending: String) throws -> ObjectKey {
    try ObjectKey("\(Self.prefix)\(name).\(ending)")
  }

  /// The names of what is there, by ending.
  private func names() async throws -> [(number: Int, endings: Set<String>)] {
    var endings: [Int: Set<String>] = [:]
    for object in try await tier.listAll(prefix: Self.prefix) {
      guard let name = object.key.rest(after: Self.prefix), let point = name.firstIndex(of: "."),
        let number = Int(name[..<point]), number > 0, Self.name(number) == name[..<point]
      else { continue }
      endings[number, default: []].insert(String(name[name.index(after: point)...]))
    }
    return endings.filter { $0.value.contains("json") }.map { ($0.key, $0.value) }.sorted { $0.number < $1.number }
  }

  /// Adds a report as the newest, with what is made of it for people, and signs it last.
  ///
  /// - Parameter key: Nil: it is not signed, and `dr-verify report` will say so.
  /// - Returns: The report with its number and the digest of the one before it.
  /// - Throws: What the tier throws; ``DRCore/DRError`` with `unsupported` by one that cannot put an object only if it is absent.
  @discardableResult
  public func append(_ report: RunReport, signedBy key: ReportSigningKey?) async throws -> RunReport {
    for _ in 0..<50 {
      let last = try await names().last?.number ?? 0
      let former = try await last == 0 ? nil : files(last)
      let placed = report.placed(last + 1, after: former)
      let files = try ReportFiles(placed, name: Self.name(last + 1), signedBy: key)
      do {
        try await put("json", files.report, files.name)
      } catch let error as DRError where error.code == .objectExists {
        continue
      }
      try await finish(files)
      return placed
    }
    throw DRError(.timedOut, "others add reports to the history all the time", advice: "run it again")
  }

  /// Signs a report that is there, after a crash.
  ///
  /// - Throws: What the tier throws; ``DRCore/DRError`` with `objectExists` for one that is signed.
  public func sign(_ number: Int, with key: ReportSigningKey) async throws {
    var files = try await files(number)
    guard files.envelope == nil else {
      throw DRError(.objectExists, "the report is signed", object: "\(Self.prefix)\(files.name).dsse.json")
    }
    let report = try RunReport(json: files.report, object: files.name)
    // What is there of it counts, if it is there.
    var made = try ReportFiles(report, name: files.name, signedBy: nil)
    made.renderings.merge(files.renderings) { $1 }
    made.report = files.report
    try made.sign(report, with: key)
    files = made
    try await finish(files)
  }

  private func finish(_ files: ReportFiles) async throws {
    for (ending, content) in files.renderings.sorted(by: { $0.key < $1.key }) {
      do {
        try await put(ending, content, files.name)
      } catch let error as DRError where error.code == .objectExists {
        continue
      }
    }
    if let envelope = files.envelope { try await put("dsse.json", envelope, files.name) }
  }

  private func put(_ ending: String, _ content: Data, _ name: String) async throws {
    _ = try await tier.put(
      key(name, ending), ByteStream(ByteBuffer(bytes: content)),
      PutOptions(onlyIfAbsent: true, expectedLength: Int64(content.count)))
  }

  /// The files of one report, for ``ReportCheck``.
  ///
  /// - Throws: What the tier throws: `objectNotFound` if there is none of this number.
  public func files(_ number: Int) async throws -> ReportFiles {
    func read(_ ending: String) async throws -> Data? {
      do {
        return Data(try await tier.read(key(Self.name(number), ending), limit: 64 << 20).readableBytesView)
      } catch let error as DRError where error.code == .objectNotFound && ending != "json" {
        return nil
      }
    }
    var files = ReportFiles(name: Self.name(number), report: try await read("json") ?? Data())
    for ending in ["html", "md"] { files.renderings[ending] = try await read(ending) }
    files.envelope = try await read("dsse.json")
    return files
  }

  /// Every report, the oldest first. Whether they are what was signed is for ``ReportCheck`` to say.
  ///
  /// - Throws: What the tier throws.
  public func entries() async throws -> [Entry] {
    var entries: [Entry] = []
    for (number, endings) in try await names() {
      let json = try await tier.read(key(Self.name(number), "json"), limit: 64 << 20)
      let report = try? RunReport(json: Data(json.readableBytesView))
      entries.append(Entry(number: number, report: report, isSigned: endings.contains("dsse.json")))
    }
    return entries
  }
}
