import ArgumentParser
public import DRCore
public import DRStorage
import Foundation
public import Logging

extension RepositoryArguments {
  /// As ``reporting(_:)``, with a line in the repository's audit trail before the work and one after it.
  ///
  /// - Parameters:
  ///   - object: What it is done to, as far as that is known before; the work says it better (``DRStorage/AuditLine``).
  ///   - isReading: It changes nothing: then a repository that cannot be written is nothing to warn of, and in a
  ///     bucket nothing is written at all.
  public func audited(
    _ operation: String, object: String? = nil, isReading: Bool = false, _ work: (AuditLine) async throws -> Void
  ) async throws {
    try await reporting {
      // A configuration that is not right is said by the work.
      let settings = try? settings()
      // What only looks writes nothing to a bucket: not even to find out how it can be written.
      let isSilent = settings.map { isReading && TierPlace.isBucket($0.repository) } ?? true
      let trail = AuditTrail(by: .current(program: Program.name)) {
        guard let settings, !isSilent else { throw CancellationError() }
        return try await settings.tier(creating: false)
      }
      try await trail.recording(
        operation, of: settings?.component, object: object, logger: logger,
        level: isSilent ? .debug : isReading ? .info : .warning, work)
    }
  }
}

extension AuditTrail {
  /// As ``record(_:of:object:logger:level:isolation:_:)``, for work that ends with an exit code.
  public func recording<Result>(
    _ operation: String, of component: Component?, object: String?, logger: Logger, level: Logger.Level = .warning,
    isolation: isolated (any Actor)? = #isolation, _ work: (AuditLine) async throws -> Result
  ) async throws -> Result {
    do {
      return try await record(operation, of: component, object: object, logger: logger, level: level) { line in
        do {
          return try await work(line)
        } catch let code as ExitCode {
          throw Ended(code: code)
        }
      }
    } catch let ended as Ended {
      throw ended.code
    }
  }
}

/// An exit code, in words.
private struct Ended: Error, CustomStringConvertible {
  var code: ExitCode

  var description: String {
    code.rawValue > 128 ? "ended by signal \(code.rawValue - 128)" : "ended with \(code.rawValue)"
  }
}
