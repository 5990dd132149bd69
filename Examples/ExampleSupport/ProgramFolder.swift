import Foundation

/// The folder that this program is in.
public enum ProgramFolder {
  /// Has what this program runs find the programs beside it first, whatever `PATH` says.
  public static func lead() {
    guard let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else { return }
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
    setenv("PATH", "\(folder):\(ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin")", 1)
  }
}
