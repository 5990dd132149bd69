import DRCore
import DRStorage
import NIOCore

/// What a backup knows of the ordinary files of its tree, and which backup holds the content of each: by it the next one leaves out
/// what has not changed.
///
/// Secrets, certificates, files with several names and files that did not stand still are not in it: they are stored each time.
///
/// Format, of the artifact `tree.index`: text, one line each, fields separated by a tab, paths with every byte but letters, digits
/// and `._-/` as `%` and two hexadecimal digits.
///
///     DRINDEX1
///     <path> <size> <modified> <changed> <inode> <mode> <owner> <group> <backup> <SHA-256 of the content in its tar>
///
/// Times are seconds since 1970, a point, and nine digits.
struct TreeIndex: Sendable {
  static let artifact = "tree.index"
  private static let magic = "DRINDEX1"

  struct Entry: Hashable, Sendable {
    var size: Int64
    var modified: FileStatus.Moment
    var changed: FileStatus.Moment
    var inode: UInt64
    var mode: UInt32
    var userID: UInt32
    var groupID: UInt32
    /// The backup whose tar holds the content.
    var home: String
    var sha256: String

    init(_ status: FileStatus, home: String, sha256: String) {
      size = status.size
      modified = status.modified
      changed = status.changed
      inode = status.identity.inode
      mode = status.mode
      userID = status.userID
      groupID = status.groupID
      self.home = home
      self.sha256 = sha256
    }

    /// Whether a file is the one that was captured, neither written nor given other attributes since.
    func isStill(_ status: FileStatus) -> Bool {
      status.kind == .file && status.links == 1 && self == Entry(status, home: home, sha256: sha256)
    }
  }

  private(set) var entries: [[UInt8]: Entry] = [:]

  subscript(path: [UInt8]) -> Entry? {
    get { entries[path] }
    set { entries[path] = newValue }
  }

  // MARK: Text

  /// The whole of it, in the order of the paths.
  func stream() -> ByteStream {
    let paths = entries.keys.sorted { $0.lexicographicallyPrecedes($1) }
    let position = MutableBox(-1)
    return ByteStream {
      var piece = ByteBuffer()
      position.withLock { position in
        if position < 0 {
          piece.writeString(TreeIndex.magic + "\n")
          position = 0
        }
        while position < paths.count, piece.readableBytes < 256 << 10 {
          if let entry = entries[paths[position]] { piece.writeString(TreeIndex.line(paths[position], entry)) }
          position += 1
        }
      }
      return piece.readableBytes > 0 ? piece : nil
    }
  }

  private static func line(_ path: [UInt8], _ entry: Entry) -> String {
    func text(_ moment: FileStatus.Moment) -> String {
      let digits = String(moment.nanoseconds)
      return "\(moment.seconds)." + String(repeating: "0", count: max(0, 9 - digits.utf8.count)) + digits
    }
    let fields = [
      escaped(path), "\(entry.size)", text(entry.modified), text(entry.changed), "\(entry.inode)",
      String(entry.mode, radix: 8), "\(entry.userID)", "\(entry.groupID)", entry.home, entry.sha256,
    ]
    return fields.joined(separator: "\t") + "\n"
  }

  /// - Throws: ``DRError``: `malformedData`, `unsupportedVersion`; what the reader throws.
  static func read(of reader: any BackupReader) async throws -> TreeIndex {
    let artifact = try reader.manifest.artifact(TreeIndex.artifact)
    var index = TreeIndex()
    var rest: [UInt8] = []
    var isFirst = true
    for try await piece in try await reader.read(artifact) {
      rest += piece.readableBytesView
      guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else {
        guard rest.count < 1 << 20 else { throw malformed(artifact) }
        continue
      }
      for line in rest[..<end].split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
        if isFirst {
          guard line.elementsEqual(magic.utf8) else {
            throw DRError(
              .unsupportedVersion, "the index of the tree is of another version",
              advice: "restore it with the version of this library that made it", object: artifact.key.rawValue)
          }
          isFirst = false
          continue
        }
        guard let (path, entry) = parse(String(decoding: line, as: UTF8.self)) else { throw malformed(artifact) }
        index.entries[path] = entry
      }
      rest = Array(rest[(end + 1)...])
    }
    guard rest.isEmpty, !isFirst else { throw malformed(artifact) }
    return index
  }

  private static func malformed(_ artifact: BackupManifest.Artifact) -> DRError {
    DRError(
      .malformedData, "the index of the tree cannot be read", advice: "choose another backup",
      object: artifact.key.rawValue)
  }

  private static func parse(_ line: String) -> ([UInt8], Entry)? {
    let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
    func moment(_ text: Substring) -> FileStatus.Moment? {
      let parts = text.split(separator: ".")
      guard parts.count == 2, let seconds = Int64(parts[0]), let nanoseconds = Int32(parts[1]) else { return nil }
      return FileStatus.Moment(seconds: seconds, nanoseconds: nanoseconds)
    }
    guard fields.count == 10, let path = unescaped(fields[0]), !path.isEmpty, let size = Int64(fields[1]),
      let modified = moment(fields[2]), let changed = moment(fields[3]), let inode = UInt64(fields[4]),
      let mode = UInt32(fields[5], radix: 8), let user = UInt32(fields[6]), let group = UInt32(fields[7]),
      fields[8].hasPrefix("backup_"), fields[9].utf8.count == 64
    else { return nil }
    return (
      path,
      Entry(
        size: size, modified: modified, changed: changed, inode: inode, mode: mode, userID: user, groupID: group,
        home: String(fields[8]), sha256: String(fields[9]))
    )
  }

  private static func isPlain(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
      UInt8(ascii: "/"):
      true
    default: false
    }
  }

  private static func escaped(_ path: [UInt8]) -> String {
    guard !path.allSatisfy(isPlain) else { return String(decoding: path, as: UTF8.self) }
    return path.reduce(into: "") { text, byte in
      if isPlain(byte) {
        text.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
      }
    }
  }

  private static func unescaped(_ text: Substring) -> [UInt8]? {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
        return nil
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return bytes
  }
}

extension TreeIndex.Entry {
  fileprivate init(
    size: Int64, modified: FileStatus.Moment, changed: FileStatus.Moment, inode: UInt64, mode: UInt32, userID: UInt32,
    groupID: UInt32, home: String, sha256: String
  ) {
    self.size = size
    self.modified = modified
    self.changed = changed
    self.inode = inode
    self.mode = mode
    self.userID = userID
    self.groupID = groupID
    self.home = home
    self.sha256 = sha256
  }
}
