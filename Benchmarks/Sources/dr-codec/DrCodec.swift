import ArgumentParser
import CPrograms
import DRCore
import NIOCore
import RowData

@main
enum Program {
  static func main() async {
    dr_allocator_keep_pages()
    await DrCodec.main()
  }
}

/// The data path of the library as a process, so that it can be timed against stock tools as a whole.
struct DrCodec: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-codec", abstract: "The library's codecs as a command, to be compared with stock tools.",
    subcommands: [Generate.self, Encode.self, Decode.self, Test.self, Digest.self])
}

@Sendable func parseFormat(_ text: String) throws -> Compression.Format {
  guard let format = Compression.Format(rawValue: text) else { throw ValidationError("use zstd, gzip or none") }
  return format
}

struct Generate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Write mixed rows, the same on every run.")

  @Option(help: "How many bytes.") var bytes: Int
  @Option(name: .shortAndLong, help: "The file to write.") var output: String

  func run() async throws {
    let file = try BlockingFile(writing: output)
    var rows = RowData()
    var left = bytes
    while left > 0 {
      try await file.write(rows.next(min(left, 1 << 20)))
      left -= 1 << 20
    }
  }
}

struct Encode: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Compress, encrypt and digest a file.")

  @Option(help: "zstd, gzip or none.", transform: parseFormat) var format = Compression.Format.zstd
  @Option(help: "The level of the format.") var level = 1
  @Option(help: "How many frames are compressed at the same time.") var workers = 2
  @Option(help: "An age public key; may be given several times.") var recipient: [String] = []
  @Option(name: .shortAndLong, help: "The file to write.") var output = "/dev/null"
  @Argument(help: "The file to read.") var input: String

  func run() async throws {
    let compression: Compression =
      switch format {
      case .zstd: .zstd(level: level)
      case .gzip: .gzip(level: level)
      case .none: .none
      }
    let encoding = Encoding(
      compression: compression, recipients: try recipient.map { try AgeRecipient(parsing: $0) }, workers: workers)
    let encoded = try encoding.encode(BlockingFile(reading: input).stream())
    let file = try BlockingFile(writing: output)
    for try await buffer in encoded.stored { try await file.write(buffer) }
    print(try encoded.summary().storedSHA256)
  }
}

struct Decoder: ParsableArguments {
  @Option(help: "zstd, gzip or none.", transform: parseFormat) var format = Compression.Format.zstd
  @Option(help: "How many frames are decompressed at the same time.") var workers = 2
  @Option(help: "A file with age secret keys: the input is encrypted.") var identity: String?
  @Argument(help: "The file to read.") var input: String

  func stream() async throws -> ByteStream {
    var identities: [AgeIdentity] = []
    if let identity {
      let text = try await BlockingFile(reading: identity).stream().collect(limit: 1 << 20)
      identities = try AgeIdentity.parseFile(String(buffer: text))
    }
    return Decoding(identities: identities, workers: workers).decode(
      try BlockingFile(reading: input).stream(), format: format, encrypted: identity != nil, object: input)
  }
}

struct Decode: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Decrypt and decompress a file.")

  @OptionGroup var decoder: Decoder
  @Option(name: .shortAndLong, help: "The file to write.") var output = "/dev/null"

  func run() async throws {
    let file = try BlockingFile(writing: output)
    for try await buffer in try await decoder.stream() { try await file.write(buffer) }
  }
}

struct Test: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Check that a file decodes.")

  @OptionGroup var decoder: Decoder

  func run() async throws {
    for try await _ in try await decoder.stream() {}
  }
}

struct Digest: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Digest a file.")

  @Flag(help: "MD5 in place of SHA-256.") var md5 = false
  @Argument(help: "The file to read.") var input: String

  func run() async throws {
    var digest = StreamDigest(md5 ? .md5 : .sha256)
    for try await buffer in try BlockingFile(reading: input).stream() { digest.update(buffer) }
    print(digest.hex())
  }
}
