import ArgumentParser
import CAllocator
import DRCore
import Foundation

/// Runs a program's work, its output line by line, and turns an error into a message and an exit code: 0 done, 1 not verified, 2 could not run.
public func reporting(_ work: () async throws -> Void) async throws {
  dr_allocator_keep_pages()
  LineBuffering.start()
  do {
    try await work()
  } catch let code as ExitCode {
    throw code
  } catch {
    FileHandle.standardError.write(Data("error: \(DRError.text(of: error))\n".utf8))
    throw ExitCode(2)
  }
}
