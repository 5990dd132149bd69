import Benchmark
import DRCore
import Kernels

func digestBenchmarks() {
  for (name, algorithm) in [("sha256", StreamDigest.Algorithm.sha256), ("md5", .md5)] {
    Benchmark("digest_\(name)") { benchmark in
      await benchmark.measure {
        var digest = StreamDigest(algorithm)
        for buffer in Sample.rows { digest.update(buffer) }
        blackHole(digest.hex())
      }
    }
  }

  Benchmark("digest_pages") { benchmark in
    let pagesInBuffer = (1 << 20) / PageChecksum.pageSize
    await benchmark.measure(Sample.rows.count * pagesInBuffer * PageChecksum.pageSize) {
      var sum: UInt64 = 0
      for buffer in Sample.rows {
        buffer.withUnsafeReadableBytes { bytes in
          for page in 0..<min(pagesInBuffer, bytes.count / PageChecksum.pageSize) {
            let start = page * PageChecksum.pageSize
            sum += UInt64(
              PageChecksum.compute(
                UnsafeRawBufferPointer(rebasing: bytes[start..<start + PageChecksum.pageSize]), block: UInt32(page)))
          }
        }
      }
      blackHole(sum)
    }
  }
}
