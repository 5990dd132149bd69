import ArgumentParser
import CAllocator
import DRCore
import Foundation

/// The exit codes of all programs; `dr-wal` alone has those that a server asks for.
public enum ProgramExit {
  /// For a program's help.
  ///
  /// - Parameters:
  ///   - done: What 0 means.
  ///   - wrong: What 1 means: the program looked, and found something.
  ///   - failed: What 2 means.
  public static func codes(
    done: String = "done", wrong: String = "something is not as it should be", failed: String = "could not run"
  ) -> String {
    "Exit codes: 0 \(done), 1 \(wrong), 2 \(failed), 64 called wrongly; 128 and more: ended by a signal."
  }
}

/// Runs a program's work, its output line by line, and turns an error into a message and an exit code (``ProgramExit``).
public func reporting(_ work: () async throws -> Void) async throws {
  dr_allocator_keep_pages()
  LineBuffering.start()
  do {
    try await work()
  } catch let code as ExitCode {
    throw code
  } catch let wrong as ValidationError {
    throw wrong
  } catch {
    FileHandle.standardError.write(Data("error: \(DRError.text(of: error))\n".utf8))
    throw ExitCode(2)
  }
}

/// Reads what a program was called with.
///
/// - Throws: `ValidationError`, which is exit code 64, for a value that cannot be meant.
public func usage<Result>(_ read: () throws -> Result) throws -> Result {
  do {
    return try read()
  } catch let error as DRError where error.code == .invalidConfiguration {
    throw ValidationError(error.message + (error.advice.map { ": \($0)" } ?? ""))
  }
}
