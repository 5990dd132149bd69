import Foundation

/// The processes of this machine, as far as a sandbox must know them.
package enum ProcessTable {
  /// The processes of some programs whose command line or title holds a text that only one sandbox's processes hold.
  ///
  /// Zombies have neither and are not listed: they have ended.
  ///
  /// - Parameter programs: The last components of their paths.
  package static func processes(of programs: [String], marked mark: String) -> [Int32] {
    all().filter { process in
      runs(programs, process) && commandLine(process).contains(mark)
    }
  }

  #if canImport(Darwin)
    private static func all() -> [Int32] {
      var processes = [Int32](repeating: 0, count: Int(max(proc_listallpids(nil, 0), 0)) + 64)
      let size = Int32(processes.count * MemoryLayout<Int32>.stride)
      let count = proc_listallpids(&processes, size)
      return Array(processes.prefix(Int(max(count, 0))))
    }

    private static func runs(_ programs: [String], _ process: Int32) -> Bool {
      var path = [CChar](repeating: 0, count: 4096)
      guard proc_pidpath(process, &path, UInt32(path.count)) > 0 else { return false }
      let program = String(cString: path)
      return programs.contains { program.hasSuffix("/\($0)") }
    }

    private static func commandLine(_ process: Int32) -> String {
      var name = [CTL_KERN, KERN_PROCARGS2, process]
      var size = 0
      guard sysctl(&name, 3, nil, &size, nil, 0) == 0 else { return "" }
      var bytes = [UInt8](repeating: 0, count: size)
      guard sysctl(&name, 3, &bytes, &size, nil, 0) == 0 else { return "" }
      return String(decoding: bytes.prefix(size), as: UTF8.self)
    }
  #else
    private static func all() -> [Int32] {
      ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }
    }

    private static func runs(_ programs: [String], _ process: Int32) -> Bool {
      // A program that was replaced while it ran is listed as "postgres (deleted)".
      let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(process)/exe")) ?? ""
      return programs.contains { program.hasSuffix("/\($0)") || program.hasSuffix("/\($0) (deleted)") }
    }

    private static func commandLine(_ process: Int32) -> String {
      String(decoding: (try? Data(contentsOf: URL(filePath: "/proc/\(process)/cmdline"))) ?? Data(), as: UTF8.self)
    }
  #endif
}
