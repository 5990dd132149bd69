import DRCore
import Foundation

/// The programs that a process has started and that run, noted in a folder: so that whoever comes after it was killed finds them, and ends them.
///
/// A note is an empty file, `<starter>.<since>.<program>.<since>.<boot>`: two processes, each with the moment since which it runs, for numbers of processes
/// come again. The folder is this user's alone.
///
/// | the starter is killed | is left | the next one |
/// | --- | --- | --- |
/// | between a program's start and its note | a program that nobody knows of | does not find it |
/// | while a program runs | the program, and its note | ends the program and what that started |
/// | after a program's end | a note | removes it |
package struct StartedPrograms: Sendable {
  /// Where ``runProgram(_:_:as:environment:limit:)`` notes what it starts; nil: nowhere.
  @TaskLocal package static var current: StartedPrograms?

  private let folder: String

  /// Makes the folder, if there is none.
  ///
  /// - Throws: ``DRError``: `notWritable`; `invalidConfiguration` if it is not this user's, or others may write into it.
  package init(folder: String) throws {
    self.folder = folder
    do {
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
      throw DRError(.notWritable, "the folder of running programs cannot be made", object: folder, cause: error)
    }
    var status = stat()
    guard lstat(folder, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, status.st_uid == geteuid(),
      status.st_mode & 0o022 == 0
    else {
      throw DRError(
        .invalidConfiguration, "the folder of running programs is not this user's alone",
        advice: "name another: what is noted there is ended", object: folder)
    }
  }

  /// Notes a program.
  ///
  /// - Returns: The note, to be removed when it has ended; nil if it has ended already, or cannot be noted.
  func note(_ program: Int32) -> String? {
    guard let own = RunningProcess(getpid()), let its = RunningProcess(program) else { return nil }
    let path = "\(folder)/\(own).\(its).\(RunningProcess.boot)"
    let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else { return nil }
    close(file)
    return path
  }

  func remove(_ note: String) { unlink(note) }

  /// Ends the programs whose starters are gone, each with all of its session: told first, killed after `limit`.
  ///
  /// - Returns: Their numbers.
  package func endAbandoned(limit: Duration = .seconds(20)) async -> [Int32] {
    guard let own = RunningProcess(getpid()) else { return [] }
    var abandoned: [(note: String, process: RunningProcess)] = []
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
      let parts = name.split(separator: ".").map(String.init)
      guard parts.count == 5, let starter = RunningProcess(parts[0], parts[1]),
        let process = RunningProcess(parts[2], parts[3]), process.number > 1
      else { continue }
      let isOfThisBoot = parts[4] == RunningProcess.boot
      if isOfThisBoot, starter.isRunning { continue }
      if isOfThisBoot, process.isRunning {
        // Of several that come after it one ends it: told twice, a program does not end in good order.
        let claimed = "\(folder)/\(own).\(process).\(RunningProcess.boot)"
        if rename("\(folder)/\(name)", claimed) == 0 { abandoned.append((claimed, process)) }
      } else {
        unlink("\(folder)/\(name)")
      }
    }
    for (signal, wait) in [(SIGTERM, limit), (SIGKILL, .seconds(5))] as [(Int32, Duration)] {
      for (_, process) in abandoned where process.isRunning { process.signalSession(signal) }
      let deadline = ContinuousClock.now + wait
      while abandoned.contains(where: { $0.process.isRunning }), ContinuousClock.now < deadline {
        // Told to end itself, it leaves the rest to the next one.
        guard (try? await Task.sleep(for: .milliseconds(20))) != nil else { return abandoned.map(\.process.number) }
      }
    }
    for (note, process) in abandoned where !process.isRunning { unlink(note) }
    return abandoned.map(\.process.number)
  }
}

/// A process, told from others that have had, or will have, its number.
struct RunningProcess: Hashable, CustomStringConvertible {
  let number: Int32
  /// When it began, in whatever the system counts.
  let since: UInt64

  /// Nil if there is none of this number.
  init?(_ number: Int32) {
    guard let since = RunningProcess.since(number) else { return nil }
    (self.number, self.since) = (number, since)
  }

  init?(_ number: String, _ since: String) {
    guard let number = Int32(number), number > 0, let since = UInt64(since) else { return nil }
    (self.number, self.since) = (number, since)
  }

  var description: String { "\(number).\(since)" }

  var isRunning: Bool { RunningProcess.since(number) == since }

  /// It leads a session of its own, as every program that is started here. Once: a program takes a second one for a wish to end at once.
  func signalSession(_ signal: Int32) {
    if kill(-number, signal) != 0 { kill(number, signal) }
  }

  #if canImport(Darwin)
    /// When the system was started.
    static let boot: String = {
      var (time, size) = (timeval(), MemoryLayout<timeval>.size)
      guard sysctlbyname("kern.boottime", &time, &size, nil, 0) == 0 else { return "unknown" }
      return "\(time.tv_sec)"
    }()

    private static func since(_ number: Int32) -> UInt64? {
      var info = proc_bsdinfo()
      let size = Int32(MemoryLayout<proc_bsdinfo>.size)
      guard proc_pidinfo(number, PROC_PIDTBSDINFO, 0, &info, size) == size, info.pbi_status != UInt32(SZOMB) else {
        return nil
      }
      return info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec
    }
  #else
    /// Which start of the system it is.
    static let boot: String = {
      let text = (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? "unknown"
      return text.filter { $0.isLetter || $0.isNumber }
    }()

    /// The 22nd field of `stat` (proc(5)); behind the name, which may hold anything. A zombie has ended.
    private static func since(_ number: Int32) -> UInt64? {
      guard let text = try? String(contentsOfFile: "/proc/\(number)/stat", encoding: .utf8),
        let end = text.lastIndex(of: ")")
      else { return nil }
      let fields = text[text.index(after: end)...].split(separator: " ")
      guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
      return UInt64(fields[19])
    }
  #endif
}
