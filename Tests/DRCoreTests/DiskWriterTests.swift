import DRCore
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Files past the page cache and through it hold the same.
struct DiskWriterTests {
  /// A disk, and memory, which takes no writes past the cache or takes them otherwise.
  private static let places = ["/var/tmp", "/dev/shm"]

  @Test("Every length is written whole, however it is cut", arguments: places)
  func lengths(place: String) throws {
    let folder = "\(place)/dr-disk-writer-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let writer = DiskWriter()
    for (number, length) in [0, 1, 4095, 4096, 1 << 20, (1 << 20) + 1, 2 << 20, (2 << 20) + 4096, 7_654_321]
      .enumerated()
    {
      for pieces in [8_191, 300_000, 3 << 20] {
        let content = TestData.rows(length, seed: UInt64(number + 1))
        let path = "\(folder)/\(length)-\(pieces)"
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600)
        try #require(file >= 0)
        writer.begin(file, expecting: Int64(length))
        for piece in TestData.pieces(of: content, upTo: pieces) { try writer.write(piece) }
        try writer.end()
        close(file)
        #expect(try ByteBuffer(bytes: Data(contentsOf: URL(filePath: path))) == content, "\(length) in \(pieces)")
      }
    }
  }

  @Test("A large file on a disk does not pass through the page cache")
  func passesBy() throws {
    let path = "/var/tmp/dr-disk-writer-\(UUID().uuidString)"
    defer { unlink(path) }
    let file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    try #require(file >= 0)
    defer { close(file) }
    let writer = DiskWriter()
    writer.begin(file, expecting: 8 << 20)
    let direct: Int32
    #if arch(x86_64)
      direct = 0o40000
    #else
      direct = 0o200000
    #endif
    #expect(fcntl(file, F_GETFL) & direct != 0)
    try writer.write(TestData.rows(8 << 20))
    try writer.end()
    // Whoever writes on does so through the cache.
    #expect(fcntl(file, F_GETFL) & direct == 0)
  }

  @Test("A descriptor that cannot be written is a failure with the system's number")
  func failure() throws {
    let file = open("/dev/null", O_RDONLY)
    defer { close(file) }
    let writer = DiskWriter()
    for size in [10, 4 << 20] as [Int64] {
      writer.begin(file, expecting: size)
      let failure = #expect(throws: DiskWriter.Failure.self) {
        try writer.write(ByteBuffer(repeating: 1, count: Int(size)))
        try writer.end()
      }
      #expect(failure?.number == EBADF)
    }
  }
}
