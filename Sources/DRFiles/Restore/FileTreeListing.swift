public import DRCore
import NIOCore

/// What a backup of files holds, without restoring it.
public struct FileTreeListing: Sendable {
  public struct Entry: Hashable, Sendable, CustomStringConvertible {
    public enum Kind: Hashable, Sendable {
      case file
      case folder
      case symbolicLink
      /// A further name of a file.
      case hardLink
    }

    public var kind: Kind
    /// Bytes that are not UTF-8 are replaced.
    public var path: String
    /// Of a file, in bytes.
    public var length: Int64
    /// Permission bits.
    public var mode: UInt32
    /// Where a link points.
    public var target: String?

    /// As `ls` shows it, with the mode in octal.
    public var description: String {
      let letter =
        switch kind {
        case .file: "-"
        case .folder: "d"
        case .symbolicLink: "l"
        case .hardLink: "h"
        }
      let digits = String(mode, radix: 8)
      let padded = String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
      let size = kind == .file ? String(length) : "-"
      let column = String(repeating: " ", count: max(0, 12 - size.utf8.count)) + size
      return "\(letter) \(padded) \(column) \(path)" + (target.map { " -> \($0)" } ?? "")
    }
  }

  /// Only these, as ``FileTreeRestorer/paths``.
  public var paths: [String]

  public init(paths: [String] = []) { self.paths = paths }

  /// Tells each entry, in the order of the archive. Reads the whole backup and checks every digest.
  ///
  /// - Throws: ``DRError``; what `body` throws.
  public func list(_ reader: any BackupReader, _ body: (Entry) throws -> Void) async throws {
    let artifact = try reader.manifest.artifact(FileTreeSource.artifact)
    let selection = try PathSelection(included: paths)
    var archive = TarReader(object: artifact.key.rawValue, dialect: .everything)
    for try await frame in try await TreeContent.open(reader) {
      archive.append(frame)
      while let event = try archive.next() {
        switch event {
        case .file(let member), .directory(let member), .symlink(let member), .hardLink(let member):
          guard selection.isEverything || selection.contains(FileName.components(member.rawPath)) else { continue }
          try body(FileTreeListing.entry(member))
        case .data, .fileEnd, .end: continue
        }
      }
    }
    try archive.finish()
  }

  private static func entry(_ member: TarMember) -> Entry {
    let kind: Entry.Kind =
      switch member.kind {
      case .file: .file
      case .folder: .folder
      case .symbolicLink: .symbolicLink
      case .hardLink: .hardLink
      }
    return Entry(
      kind: kind, path: member.rawPath.isEmpty ? "." : FileName.text(member.rawPath), length: member.length,
      mode: member.mode,
      target: member.rawLinkTarget.map { FileName.text($0) })
  }
}
