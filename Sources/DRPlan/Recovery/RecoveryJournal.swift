import DRCore
import Foundation

/// The journal of a recovery: a file of JSON lines, each durable before what it says is relied on.
///
///     {"plan":"redis-failure","digest":"…","begun":"…","since":"…"}
///     {"started":"restore","at":"…"}
///     {"ended":{"step":"restore","outcome":"done",…}}
///     {"takingBack":"restore","at":"…"}
///
/// A step counts as done by its last line, and if what it needs does: what was taken back, or is being taken back, is done anew, and so is
/// what was done on top of it. A last line that was cut by a crash counts for nothing.
public final class RecoveryJournal: Sendable {
  enum Line {
    case started(String, Date)
    case takingBack(String, Date)
    case ended(RecoveryReport.Entry)
  }

  private struct Header: Codable {
    var plan: String
    var digest: String
    var begun: String
    var since: String
  }

  private struct Record: Codable {
    var started: String?
    var takingBack: String?
    var at: String?
    var ended: Entry?

    struct Entry: Codable {
      var step: String
      var outcome: RecoveryReport.Outcome
      var started: String
      var ended: String?
      var attempts: Int
      var evidence: String
    }
  }

  public let path: String
  private let file = MutableBox<FileHandle?>(nil)

  /// - Parameter path: Of a file, which is made if it is not there.
  public init(at path: String) { self.path = URL(fileURLWithPath: path).path }

  /// Lets another run have it.
  func end() {
    file.withLock { handle in
      // Closed alone, it would stay locked for as long as a program that is just being started has its copy.
      if let handle { flock(handle.fileDescriptor, LOCK_UN) }
      handle = nil
    }
  }

  /// Opens it for a plan, or makes it.
  ///
  /// - Returns: What earlier runs have done, and the moment of the disaster that the first of them was told.
  func open(_ plan: RecoveryPlan, at moment: Date, since: Date) throws -> (
    entries: [String: RecoveryReport.Entry], since: Date
  ) {
    let descriptor = Foundation.open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw failed("opened") }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      throw DRError(
        .destinationInUse, "another run writes this journal", advice: "wait for it, or end it", object: path)
    }
    let content = try handle.readToEnd() ?? Data()
    let decoder = JSONDecoder()
    var lines = content.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    // What follows the last line end was cut.
    let whole = content.count - (lines.popLast()?.count ?? 0)
    guard let first = lines.first else {
      try handle.truncate(atOffset: 0)
      file.withLock { $0 = handle }
      try append(
        Header(
          plan: plan.name, digest: plan.digest, begun: Timestamp.format(moment), since: Timestamp.format(since)))
      try syncFolder()
      return ([:], since)
    }
    guard let header = try? decoder.decode(Header.self, from: Data(first)) else {
      throw DRError(.malformedData, "the file is no journal of a recovery", advice: "name another one", object: path)
    }
    guard header.digest == plan.digest else {
      throw DRError(
        .invalidConfiguration,
        "the journal is that of another plan, '\(header.plan)', or of this one as it was before a change",
        advice: "go on with the plan as it was, or begin anew with another journal", object: path)
    }
    var entries: [String: RecoveryReport.Entry] = [:]
    for line in lines.dropFirst() {
      guard let record = try? decoder.decode(Record.self, from: Data(line)) else {
        throw DRError(.malformedData, "a line of the journal cannot be read", advice: "look at the disk", object: path)
      }
      if let step = record.started ?? record.takingBack ?? record.ended?.step {
        guard plan.steps.contains(where: { $0.id == step }) else {
          throw DRError(
            .malformedData, "the journal names a step '\(step.prefix(64))' that its plan has not",
            advice: "look at the disk, and at who could write it", object: path)
        }
        entries[step] = nil
      }
      guard let ended = record.ended, ended.outcome.isDone, let begun = Timestamp.parse(ended.started) else { continue }
      var entry = RecoveryReport.Entry(step: ended.step, started: begun)
      (entry.outcome, entry.ended) = (ended.outcome, ended.ended.flatMap { Timestamp.parse($0) })
      (entry.attempts, entry.evidence) = (ended.attempts, ended.evidence)
      entries[ended.step] = entry
    }
    for step in plan.ordered where !step.needs.allSatisfy({ entries[$0] != nil }) { entries[step.id] = nil }
    try handle.truncate(atOffset: UInt64(whole))
    try handle.seek(toOffset: UInt64(whole))
    file.withLock { $0 = handle }
    return (entries, Timestamp.parse(header.since) ?? since)
  }

  func write(_ line: Line) throws {
    switch line {
    case .started(let step, let moment): try append(Record(started: step, at: Timestamp.format(moment)))
    case .takingBack(let step, let moment): try append(Record(takingBack: step, at: Timestamp.format(moment)))
    case .ended(let entry):
      try append(
        Record(
          ended: Record.Entry(
            step: entry.step, outcome: entry.outcome, started: Timestamp.format(entry.started),
            ended: entry.ended.map { Timestamp.format($0) }, attempts: entry.attempts, evidence: entry.evidence)))
    }
  }

  private func append(_ line: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let data = try encoder.encode(line) + Data("\n".utf8)
    try file.withLock { file in
      guard let file else { throw failed("written") }
      do {
        try file.write(contentsOf: data)
        try file.synchronize()
      } catch {
        throw failed("written")
      }
    }
  }

  private func syncFolder() throws {
    let folder = Foundation.open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw failed("made durable") }
    defer { close(folder) }
    guard fsync(folder) == 0 else { throw failed("made durable") }
  }

  private func failed(_ what: String) -> DRError {
    DRError(
      .notWritable, "the journal of the recovery cannot be \(what): \(String(cString: strerror(errno)))",
      advice: "give it another place: without it, a run that is killed would begin anew", object: path)
  }
}
