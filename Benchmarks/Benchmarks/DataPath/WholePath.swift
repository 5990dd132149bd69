import Benchmark
import DRCore
import NIOCore

/// As a base backup goes to the tier and comes back: zstd at level 1 on two workers, encrypted, every digest.
func wholePathBenchmarks() {
  let identity = AgeIdentity.generate()
  let encoding = Encoding(recipients: [identity.recipient].compactMap { $0 })
  Benchmark("whole_encode") { benchmark in
    try await benchmark.measure {
      let encoded = try encoding.encode(ByteStream(Sample.rows))
      try await drain(encoded.stored)
      blackHole(try encoded.summary())
    }
  }
  Benchmark("whole_decode") { (benchmark, encoded: (stored: [ByteBuffer], summary: EncodedStream.Summary)) in
    try await benchmark.measure {
      try await drain(
        Decoding(identities: [identity]).decode(
          ByteStream(encoded.stored), format: .zstd, encrypted: true, expected: encoded.summary, object: "whole"))
    }
  } setup: {
    let encoded = try encoding.encode(ByteStream(Sample.rows))
    var stored: [ByteBuffer] = []
    for try await buffer in encoded.stored { stored.append(buffer) }
    return (stored: stored, summary: try encoded.summary())
  }
}
