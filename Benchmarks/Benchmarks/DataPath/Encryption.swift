import Benchmark
import DRCore
import NIOCore

/// Encryption alone: nothing is compressed.
func encryptionBenchmarks() {
  let identity = AgeIdentity.generate()
  let encoding = Encoding(compression: .none, recipients: [identity.recipient].compactMap { $0 })
  Benchmark("age_encrypt") { benchmark in
    try await benchmark.measure { try await drain(encoding.encode(ByteStream(Sample.rows)).stored) }
  }
  Benchmark("age_decrypt") { (benchmark, stored: [ByteBuffer]) in
    try await benchmark.measure {
      try await drain(
        Decoding(identities: [identity]).decode(ByteStream(stored), format: .none, encrypted: true, object: "age"))
    }
  } setup: {
    try await Sample.stored(encoding)
  }
}
