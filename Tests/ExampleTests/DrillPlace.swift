import DRCore
import DRPlan
import DRTestSupport
import Foundation
import Testing

/// Where the drills of one test are: with a temporary folder of their own, so that whatever they leave is seen.
struct DrillPlace {
  /// Of the drills' output and reports.
  let folder: String
  /// The drills' `TMPDIR`: short enough for sandboxes.
  let temporary: String

  static func with<Result>(_ body: (DrillPlace) async throws -> Result) async throws -> Result {
    try await withTemporaryFolder { folder in
      var template = Array("/tmp/drdrill-XXXXXX".utf8CString)
      guard let made = mkdtemp(&template) else { throw DRError(.notWritable, "no folder can be made") }
      let place = DrillPlace(folder: folder, temporary: String(cString: made))
      // A server's processes belong to another user.
      chmod(place.temporary, 0o755)
      defer {
        for process in place.processes { Foundation.kill(process, SIGKILL) }
        try? FileManager.default.removeItem(atPath: place.temporary)
      }
      return try await body(place)
    }
  }

  func start(_ arguments: [String], input: Pipe? = nil) throws -> RunningProgram {
    try RunningProgram(
      arguments, of: ReceiverProcess.built("dr-drill"), in: folder, environment: ["TMPDIR": temporary], input: input)
  }

  func run(_ arguments: [String], limit: Duration = .seconds(120)) async throws -> (status: Int32, said: String) {
    try await start(arguments).end(within: limit)
  }

  /// The folder that a drill said at its start.
  func folder(of drill: RunningProgram) async throws -> String {
    var found: String?
    try await eventually("the drill to say its folder") {
      found = drill.said.firstMatch(of: /dr-drill --resume (\S+)\n/).map { String($0.1) }
      return found != nil
    }
    return try #require(found)
  }

  /// Kills a drill once something is so, as nothing can be caught.
  func kill(_ drill: RunningProgram, once what: String, _ isSo: () throws -> Bool) async throws {
    try await eventually(what, within: .seconds(100)) {
      let isThere = try isSo()
      return isThere
    }
    drill.send(SIGKILL)
    let ended = try await drill.end(within: .seconds(20))
    #expect(ended.status == 137, "it ended before: \(ended.said)")
  }

  /// What is in the temporary folder.
  var left: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: temporary)) ?? ["?"]).sorted() }

  /// Processes that speak of the temporary folder, or are at home in it.
  var processes: [Int32] {
    let all = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }
    return all.filter { process in
      let home = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/cwd")) ?? ""
      let words = (try? Data(contentsOf: URL(filePath: "/proc/\(process)/cmdline"))) ?? Data()
      return home.hasPrefix(temporary) || String(decoding: words, as: UTF8.self).contains(temporary)
    }
  }

  /// The report that a drill has written into a folder below this one.
  func report(_ name: String) throws -> RunReport {
    let folder = "\(folder)/\(name)"
    let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
      $0.hasSuffix(".json") && !$0.hasSuffix(".dsse.json")
    }
    #expect(files.count == 1, "\(files)")
    return try RunReport(json: Data(contentsOf: URL(filePath: "\(folder)/\(try #require(files.first))")))
  }
}

/// The journal of a drill, as it is on disk.
struct DrillJournal {
  /// In the order in which they are there.
  let started: [String]
  let done: [String]

  init(of folder: String) {
    struct Line: Decodable {
      struct Ended: Decodable { var step: String, outcome: String }
      var started: String?
      var ended: Ended?
    }
    let data = (try? Data(contentsOf: URL(filePath: "\(folder)/record/journal"))) ?? Data()
    let lines = data.split(separator: UInt8(ascii: "\n")).compactMap { try? JSONDecoder().decode(Line.self, from: $0) }
    started = lines.compactMap(\.started)
    done = lines.compactMap { $0.ended?.outcome == "done" ? $0.ended?.step : nil }
  }
}
