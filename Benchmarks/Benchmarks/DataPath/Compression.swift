import Benchmark
import DRCore
import NIOCore

func compressionBenchmarks() {
  let compressions: [Compression] = [
    .zstd(level: 1), .zstd(level: 3), .zstd(level: 9), .gzip(level: 1), .gzip(level: 5), .gzip(level: 6),
    .gzip(level: 9), .none,
  ]
  for compression in compressions {
    for workers in [1, 2] {
      let encoding = Encoding(compression: compression, workers: workers)
      let name = "\(compression.format)_\(compression.level)_workers_\(workers)"
      Benchmark("encode_\(name)") { benchmark in
        try await benchmark.measure { try await drain(encoding.encode(ByteStream(Sample.rows)).stored) }
      }
      Benchmark("decode_\(name)") { (benchmark, stored: [ByteBuffer]) in
        try await benchmark.measure {
          try await drain(
            Decoding(workers: workers).decode(
              ByteStream(stored), format: compression.format, encrypted: false, object: name))
        }
      } setup: {
        try await Sample.stored(encoding)
      }
    }
  }
}
