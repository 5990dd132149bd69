import Benchmark
import DRCore
import Foundation
import NIOCore
import RowData

let benchmarks: @Sendable () -> Void = {
  Benchmark.defaultConfiguration = .init(
    metrics: [.megabytesPerSecond], warmupIterations: 1, maxDuration: .seconds(20),
    maxIterations: 7)
  digestBenchmarks()
  compressionBenchmarks()
  encryptionBenchmarks()
  wholePathBenchmarks()
}

extension BenchmarkMetric {
  /// Raw bytes, not stored ones: 10^6 of them a second.
  static let megabytesPerSecond = BenchmarkMetric.custom(
    "MB_per_s", polarity: .prefersLarger, useScalingFactor: false)
}

/// What every benchmark works on: `DR_BENCH_MB` times 10^6 bytes of mixed rows, 256 if it is not set.
enum Sample {
  static let rows: [ByteBuffer] = RowData.buffers(
    (ProcessInfo.processInfo.environment["DR_BENCH_MB"].flatMap { Int($0) } ?? 256) * 1_000_000)

  static let size = rows.reduce(0) { $0 + $1.readableBytes }

  static func stored(_ encoding: Encoding) async throws -> [ByteBuffer] {
    var stored: [ByteBuffer] = []
    for try await buffer in try encoding.encode(ByteStream(rows)).stored { stored.append(buffer) }
    return stored
  }
}

extension Benchmark {
  /// Times a pass over the sample's bytes.
  func measure(_ bytes: Int = Sample.size, _ pass: () async throws -> Void) async rethrows {
    let clock = ContinuousClock()
    let start = clock.now
    try await pass()
    let seconds = (clock.now - start) / .seconds(1)
    measurement(.megabytesPerSecond, Int(Double(bytes) / 1e6 / seconds))
  }
}

/// Pulls a stream to its end.
func drain(_ stream: ByteStream) async throws {
  for try await buffer in stream { blackHole(buffer.readableBytes) }
}
