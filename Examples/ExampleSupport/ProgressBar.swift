public import DRCore
import Foundation
import Synchronization

/// Draws progress: a bar on a terminal, a plain line every few seconds elsewhere. On standard error, so that standard
/// output can be piped.
public final class ProgressBar: Sendable {
  private let label: String
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private let lastLine = Mutex<(elapsed: Duration, isWaiting: Bool)?>(nil)

  public init(_ label: String) { self.label = label }

  /// Give this as the progress of a backup, a restore or a verification.
  public var handler: ProgressHandler { { progress in self.show(progress) } }

  private func show(_ progress: TransferProgress) {
    if isTerminal {
      write("\r\u{1B}[K" + bar(progress) + (progress.finished ? "\n" : ""))
      return
    }
    let due = lastLine.withLock { last in
      let isWaiting = progress.waitingFor != nil
      if !progress.finished, let last, last.isWaiting == isWaiting, progress.elapsed - last.elapsed < .seconds(5) {
        return false
      }
      last = (progress.elapsed, isWaiting)
      return true
    }
    if due { write(line(progress) + "\n") }
  }

  private func bar(_ progress: TransferProgress) -> String {
    let width = 24
    // The server's size is a guess: a bar that is not finished never looks full.
    let fraction = progress.finished ? 1 : min(progress.fraction ?? 0, 0.99)
    let filled = Int(fraction * Double(width))
    let drawn = String(repeating: "=", count: filled) + String(repeating: " ", count: width - filled)
    return "\(label) [\(drawn)] " + line(progress).dropFirst(label.count + 1)
  }

  private func line(_ progress: TransferProgress) -> String {
    if let what = progress.waitingFor {
      return "\(label) \(Format.bytes(progress.done)), waiting for \(what), \(Format.duration(progress.elapsed)) so far"
    }
    var text = "\(label) \(Format.bytes(progress.done))"
    if !progress.finished {
      if let total = progress.total { text += " of about \(Format.bytes(total))" }
      if let fraction = progress.fraction { text += ", \(Int(min(fraction, 0.99) * 100)) %" }
    }
    text += ", \(Format.bytes(Int64(progress.rate)))/s"
    if progress.finished {
      text += ", in \(Format.duration(progress.elapsed))"
    } else if let remaining = progress.remaining {
      text += ", \(Format.duration(remaining)) left"
    }
    return text
  }

  private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}

/// Figures for people.
public enum Format {
  /// In units of 1,000, with three digits.
  public static func bytes(_ count: Int64) -> String {
    var value = Double(count)
    for unit in ["B", "kB", "MB", "GB", "TB"] {
      if value < 999.5 || unit == "TB" {
        return unit == "B"
          ? "\(count) B"
          : String(format: value < 9.995 ? "%.2f %@" : value < 99.95 ? "%.1f %@" : "%.0f %@", value, unit)
      }
      value /= 1000
    }
    return "\(count) B"
  }

  public static func duration(_ duration: Duration) -> String {
    let seconds = duration / .seconds(1)
    if seconds < 60 { return String(format: "%.2f s", seconds) }
    let whole = Int(seconds.rounded())
    return whole < 3600 ? "\(whole / 60) min \(whole % 60) s" : "\(whole / 3600) h \(whole % 3600 / 60) min"
  }
}
