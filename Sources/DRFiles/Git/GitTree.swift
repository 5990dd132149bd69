import DRCore
import NIOCore

/// The files, links and folders of a commit, as `git ls-tree -r -t -z` tells them: pure.
///
/// Read so, and not checked out: git keeps names that it then refuses to check out, and every one of them is to come back.
struct GitTree: Sendable {
  struct Entry: Sendable {
    enum Kind: Sendable {
      case file(isExecutable: Bool)
      case symbolicLink
      case folder
    }

    var kind: Kind
    /// The object that holds the content.
    var object: String
    var path: [UInt8]
  }

  private(set) var entries: [Entry] = []
  private var rest: [UInt8] = []

  mutating func add(_ frame: ByteBuffer) throws {
    rest += frame.readableBytesView
    guard let end = rest.lastIndex(of: 0) else { return }
    for line in rest[..<end].split(separator: 0) { try add(line: line) }
    rest.removeFirst(end + 1)
  }

  func finish() throws {
    guard rest.isEmpty else { throw GitTree.malformed }
  }

  /// `<mode> <type> <object>\t<path>`.
  private mutating func add(line: ArraySlice<UInt8>) throws {
    guard let tab = line.firstIndex(of: UInt8(ascii: "\t")) else { throw GitTree.malformed }
    let fields = String(decoding: line[..<tab], as: UTF8.self).split(separator: " ")
    guard fields.count == 3, let mode = UInt32(fields[0], radix: 8) else { throw GitTree.malformed }
    let kind: Entry.Kind
    switch (mode & 0o170_000, fields[1]) {
    case (0o100_000, "blob"): kind = .file(isExecutable: mode & 0o100 != 0)
    case (0o120_000, "blob"): kind = .symbolicLink
    case (0o040_000, "tree"): kind = .folder
    // A commit of another repository, of which this one holds nothing.
    default: return
    }
    entries.append(Entry(kind: kind, object: String(fields[2]), path: [UInt8](line[(tab + 1)...])))
  }

  static let malformed = DRError(.malformedData, "what git says of a commit cannot be read")
}

/// What `git cat-file --batch` writes, for a list of objects in their order: a line, the content, a newline. Bytes in, pieces out.
struct GitObjects: Sendable {
  enum Piece {
    /// The next object begins.
    case begin(size: Int64)
    case data(ByteBuffer)
    case end
  }

  private enum State {
    case line
    case content(Int64)
    case newline
  }

  private var state = State.line
  private var input = ByteBuffer()

  mutating func append(_ frame: ByteBuffer) {
    if input.readableBytes == 0 { input = frame } else { input.writeImmutableBuffer(frame) }
  }

  /// Nil: more bytes are needed.
  mutating func next() throws -> Piece? {
    switch state {
    case .line:
      let view = input.readableBytesView
      guard let end = view.firstIndex(of: UInt8(ascii: "\n")) else {
        guard view.count < 1 << 16 else { throw GitTree.malformed }
        return nil
      }
      let fields = String(decoding: view[..<end], as: UTF8.self).split(separator: " ")
      guard fields.count == 3, fields[1] == "blob", let size = Int64(fields[2]) else {
        throw DRError(
          .corruptData, "the repository does not hold an object of the commit", advice: "choose another commit",
          object: fields.first.map(String.init))
      }
      input.moveReaderIndex(forwardBy: end - view.startIndex + 1)
      state = .content(size)
      return .begin(size: size)
    case .content(0):
      state = .newline
      return .end
    case .content(let rest):
      guard let slice = input.readSlice(length: Int(min(rest, Int64(input.readableBytes)))), slice.readableBytes > 0
      else { return nil }
      state = .content(rest - Int64(slice.readableBytes))
      return .data(slice)
    case .newline:
      guard let byte = input.readInteger(as: UInt8.self) else { return nil }
      guard byte == UInt8(ascii: "\n") else { throw GitTree.malformed }
      state = .line
      return try next()
    }
  }

  /// Whether it stands between two objects.
  var isComplete: Bool {
    switch state {
    case .line: input.readableBytes == 0
    case .newline: input.readableBytes == 1
    case .content: false
    }
  }
}
