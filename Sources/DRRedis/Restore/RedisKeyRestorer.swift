public import DRCore
import Foundation
public import Logging
import NIOCore

/// Restores keys one by one into a running server or cluster, beside what it holds.
///
/// Each value goes as the backup has it, byte for byte, with the moment at which it expires. A key that is there already is
/// left as it is, unless ``replacesExisting``; one whose time is past is not restored; both are counted. Values are held one
/// at a time. The user needs `+restore +select` (in a cluster `+cluster|nodes`, for functions `+function|restore`) and the
/// keys.
///
/// Of a cluster's backup each key comes as it was when its shard's data set was taken: the changes up to the cut across
/// shards are commands, not keys, and are left out; ``Report/changesLeftOut`` counts them.
///
/// What a failure leaves: the keys that were restored until then. To run it again is safe.
public struct RedisKeyRestorer: Restorer {
  /// What to do with the backup's functions.
  public enum Functions: Sendable {
    case leave
    /// Add the libraries; one that is there already is an error.
    case add
    /// Add the libraries, in place of those of the same names.
    case replace
  }

  /// What became of the selected keys.
  public struct Report: Sendable {
    public struct Failure: Sendable, Hashable {
      /// What is no text is shown as `\x00`.
      public var key: String
      public var why: String
    }

    static let mostFailures = 20

    public var selected = 0
    public var restored = 0
    /// Left as they were, for the server had them already.
    public var existing = 0
    /// Not restored, for their time was past.
    public var expired = 0
    /// Refused by the server, or too long: not restored.
    public var failed = 0
    /// The first of those that failed.
    public var failures: [Failure] = []
    /// Function libraries.
    public var functions = 0
    /// Of a cluster's backup, for each shard: changes between its data set and the cut across shards, which are not in the keys.
    public var changesLeftOut: [Int] = []
    /// Bytes of restored keys and values.
    public var bytes: Int64 = 0
    public var duration = Duration.zero
    /// Of that, the time after the backup was read and checked for the first time.
    public var sending = Duration.zero
  }

  public var server: RedisConnectionSettings
  public var selection: RedisKeySelection
  /// Put the backup's value in the place of one that is there.
  public var replacesExisting = false
  public var functions = Functions.leave
  /// Read the whole backup first, and compare its checksums, before any key is restored.
  public var checksFirst = true
  /// Take a backup without a checksum in its RDB file.
  public var acceptsMissingChecksum = false
  /// The most bytes of a value; a larger one fails. About four times as much memory is used for it.
  public var valueLimit = 32 << 20
  public var progress: ProgressHandler?

  public init(server: RedisConnectionSettings, selection: RedisKeySelection = RedisKeySelection()) {
    self.server = server
    self.selection = selection
  }

  /// Restores what was selected from the snapshot.
  ///
  /// - Throws: As ``restoreKeys(from:logger:)``; `sourceFailed` if any key failed; `targetUnreachable` for a target other
  ///   than the snapshot itself.
  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    switch target {
    case .latest, .immediate: break
    case .time, .position, .name:
      throw DRError(
        .targetUnreachable, "keys are restored from a snapshot, which holds one moment",
        advice: "restore to the moment into a sandbox, and take the keys from there",
        component: reader.manifest.component)
    }
    let report = try await restoreKeys(from: reader, logger: logger)
    guard report.failed == 0 else {
      throw DRError(
        .sourceFailed, "\(report.failed) of \(report.selected) keys were not restored",
        advice: report.failures.first.map { "the first: \($0.key): \($0.why)" }, component: reader.manifest.component)
    }
    return RestoreOutcome(bytes: report.bytes, items: report.restored, duration: report.duration)
  }

  /// Restores what was selected from a backup, and says what became of it.
  ///
  /// - Throws: ``DRError``: `corruptData`, `malformedData` for a backup that is not sound; `sourceFailed`, `timedOut`,
  ///   `noSpace`, `invalidConfiguration` if the server takes no keys.
  public func restoreKeys(from reader: any BackupReader, logger: Logger) async throws -> Report {
    do {
      var leftOut: [Int] = []
      for shard in 0..<(reader.manifest.shards ?? 0) {
        leftOut.append(try await reader.changes(ofShard: shard).commands)
      }
      var report = try await restoreKeys(
        try reader.manifest.dataSets().map { artifact in
          DataSet(size: artifact.rawSize, object: artifact.key.rawValue) { try await reader.read(artifact) }
        }, logger)
      report.changesLeftOut = leftOut
      return report
    } catch var error as DRError {
      error.component = error.component ?? reader.manifest.component
      throw error
    }
  }

  /// Restores what was selected from an RDB file.
  ///
  /// - Parameters:
  ///   - object: Names the file in errors.
  ///   - open: Gives the file's bytes; called twice if it is to be checked first.
  /// - Throws: As ``restoreKeys(from:logger:)``.
  public func restoreKeys(
    size: Int64?, object: String, logger: Logger, from open: @escaping @Sendable () async throws -> ByteStream
  ) async throws -> Report {
    try await restoreKeys([DataSet(size: size, object: object, open: open)], logger)
  }

  private struct DataSet {
    var size: Int64?
    var object: String
    var open: @Sendable () async throws -> ByteStream
  }

  private func restoreKeys(_ dataSets: [DataSet], _ logger: Logger) async throws -> Report {
    let start = ContinuousClock.now
    let filter = try KeyFilter(selection)
    if checksFirst {
      for one in dataSets { try await check(try await one.open(), one.size, one.object) }
    }
    let checked = ContinuousClock.now
    let sender = try await KeySender.connect(server, logger: logger)
    do {
      var report = Report()
      var libraries: [ByteBuffer] = []
      for one in dataSets {
        let held = try await send(try await one.open(), one.size, one.object, filter, sender, &report)
        // Every shard of a cluster has the same.
        if libraries.isEmpty { libraries = held }
      }
      let outcome = try await sender.finish()
      report.restored = outcome.restored
      report.existing = outcome.existing
      report.failed += outcome.failed
      report.failures = Array((report.failures + outcome.failures).prefix(Report.mostFailures))
      report.bytes = sender.bytes
      if !libraries.isEmpty {
        var replaces = false
        if case .replace = functions { replaces = true }
        try await sender.restore(functions: DumpPayload.functions(libraries), replacing: replaces)
        report.functions = libraries.count
      }
      report.duration = start.duration(to: .now)
      report.sending = checked.duration(to: .now)
      await sender.stop()
      return report
    } catch {
      await sender.stop()
      throw await explained(error, logger)
    }
  }

  /// Which server takes keys, if this one is a replica.
  private func explained(_ error: any Error, _ logger: Logger) async -> any Error {
    guard var refused = error as? DRError, refused.redisError?.kind == "READONLY" else { return error }
    let answer = try? await RedisConnection.withConnection(server, logger: logger) {
      try await $0.send(["INFO", "replication"])
    }
    let info = answer.flatMap { RedisInfo.readable($0) }
    let master = info.flatMap { info in info["master_host"].map { "\($0):\(info["master_port"] ?? "?")" } }
    refused.advice = "it is a replica: restore into its master" + (master.map { ", \($0)" } ?? "")
    return refused
  }

  private func check(_ content: ByteStream, _ size: Int64?, _ object: String) async throws {
    let meter = progress.map { ProgressMeter("check dump.rdb", total: size, handler: $0) }
    var scanner = RDBScanner(object: object, options: RDBScanner.Options(largestKeys: 0, checksValues: true))
    for try await frame in content {
      try scanner.scan(frame)
      meter?.add(frame.readableBytes)
    }
    guard try scanner.finish().checksum == .verified || acceptsMissingChecksum else {
      throw DRError(
        .corruptData, "the RDB file has no checksum: nothing vouches for its bytes",
        advice: "choose a backup with one, or accept a missing checksum", object: object)
    }
    meter?.finish()
  }

  /// Returns the function libraries, as far as they are wanted.
  private func send(
    _ content: ByteStream, _ size: Int64?, _ object: String, _ filter: KeyFilter, _ sender: KeySender,
    _ report: inout Report
  ) async throws -> [ByteBuffer] {
    let meter = progress.map { ProgressMeter("dump.rdb", total: size, handler: $0) }
    let now = Int64(Date().timeIntervalSince1970 * 1000)
    var reader = RDBEntryReader(object: object, valueLimit: valueLimit, selects: { filter.selects($0) })
    var libraries: [ByteBuffer] = []
    for try await frame in content {
      reader.append(frame)
      while let item = try reader.next() {
        switch item {
        case .function(let library):
          if case .leave = functions { continue }
          guard let library, libraries.reduce(0, { $0 + $1.readableBytes }) < valueLimit else {
            throw DRError(
              .invalidConfiguration, "the functions are longer than \(valueLimit) bytes", advice: "raise --value-limit")
          }
          // Copied: it would keep the whole frame.
          libraries.append(ByteBuffer(bytes: library.readableBytesView))
        case .entry(let entry):
          report.selected += 1
          if let expiry = entry.expiry, expiry <= now {
            report.expired += 1
            continue
          }
          guard let value = entry.value else {
            report.failed += 1
            if report.failures.count < Report.mostFailures {
              let name = entry.key.withUnsafeReadableBytes { RDBString.shown($0) }
              report.failures.append(
                Report.Failure(
                  key: name,
                  why: "its value has \(entry.valueBytes) bytes, over the limit of \(valueLimit) (--value-limit)"))
            }
            continue
          }
          try await sender.send(
            entry, value, as: filter.name(entry.key), database: filter.database(entry.database),
            replacing: replacesExisting)
        }
      }
      meter?.add(frame.readableBytes)
    }
    _ = try reader.finish()
    meter?.finish()
    return libraries
  }
}
