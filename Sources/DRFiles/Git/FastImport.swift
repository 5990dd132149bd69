import DRCore
import Foundation
import NIOCore

/// Makes the stream that `git fast-import` reads out of a tar: bytes in, bytes out.
///
/// Format: git-fast-import(1).
struct FastImport: Sendable {
  private struct File: Sendable {
    var mode: String
    var mark: Int
  }

  /// A line for each member, beside the commit: what git does not keep of it.
  ///
  ///     <path, as git quotes it> <d for a folder, or -> <mode> <owner> <group> <user's name> <group's name> <time, to the nanosecond>
  private(set) var attributes = ""
  private var reader: TarReader
  private var files: [[UInt8]: File] = [:]
  private var order: [[UInt8]] = []
  private var marks = 0

  var count: Int { files.count }

  init() { reader = TarReader(object: "the tree", dialect: .everything) }

  mutating func pass(_ frame: ByteBuffer, into out: inout ByteBuffer) throws {
    reader.append(frame)
    while let event = try reader.next() {
      switch event {
      case .file(let member):
        add(member, member.mode & 0o100 == 0 ? "100644" : "100755", &out)
        out.writeString("data \(member.size)\n")
      case .data(let slice): out.writeImmutableBuffer(slice)
      case .fileEnd: out.writeString("\n")
      case .symlink(let member):
        add(member, "120000", &out)
        let target = member.rawLinkTarget ?? []
        out.writeString("data \(target.count)\n")
        out.writeBytes(target)
        out.writeString("\n")
      case .hardLink(let member):
        guard let first = files[member.rawLinkTarget ?? []] else { continue }
        note(member)
        put(member.rawPath, first)
      case .directory(let member): note(member)
      case .end: break
      }
    }
  }

  private mutating func add(_ member: TarMember, _ mode: String, _ out: inout ByteBuffer) {
    marks += 1
    note(member)
    put(member.rawPath, File(mode: mode, mark: marks))
    out.writeString("blob\nmark :\(marks)\n")
  }

  private mutating func put(_ path: [UInt8], _ file: File) {
    if files.updateValue(file, forKey: path) == nil { order.append(path) }
  }

  private mutating func note(_ member: TarMember) {
    let fields = [
      FastImport.quoted(member.rawPath), member.kind == .folder ? "d" : "-", String(member.mode, radix: 8),
      "\(member.userID)", "\(member.groupID)",
      member.userName.isEmpty ? "-" : member.userName, member.groupName.isEmpty ? "-" : member.groupName,
      "\(member.modified).\(member.nanoseconds)",
    ]
    attributes += fields.joined(separator: "\t") + "\n"
  }

  /// The commit of all that came, under a name of its own, with what git does not keep as its note.
  ///
  /// - Parameters:
  ///   - person: `Name <address>`.
  ///   - notes: The ref under which notes are kept, and what it points to now.
  func commit(
    to ref: String, from parent: String?, by person: String, at moment: Date, message: String,
    notes: (ref: String, parent: String?)
  ) throws -> ByteBuffer {
    try reader.finish()
    var out = ByteBuffer()
    let when = "\(Int64(moment.timeIntervalSince1970)) +0000"
    func data(_ text: String) { out.writeString("data \(text.utf8.count)\n\(text)\n") }
    let mark = marks + 1
    out.writeString("commit \(ref)\nmark :\(mark)\nauthor \(person) \(when)\ncommitter \(person) \(when)\n")
    data(message)
    if let parent { out.writeString("from \(parent)\n") }
    out.writeString("deleteall\n")
    for path in order {
      guard let file = files[path] else { continue }
      out.writeString("M \(file.mode) :\(file.mark) \(FastImport.quoted(path))\n")
    }
    out.writeString("\ncommit \(notes.ref)\ncommitter \(person) \(when)\n")
    data("attributes of \(ref)")
    if let parent = notes.parent { out.writeString("from \(parent)\n") }
    out.writeString("N inline :\(mark)\n")
    data(attributes)
    out.writeString("\ndone\n")
    return out
  }

  /// As git writes a path in C's manner, always with quotes.
  static func quoted(_ path: [UInt8]) -> String {
    var text = "\""
    for byte in path {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): text += "\\" + String(UnicodeScalar(byte))
      case 0x20..<0x7F: text.unicodeScalars.append(UnicodeScalar(byte))
      default:
        let digits = String(byte, radix: 8)
        text += "\\" + String(repeating: "0", count: 3 - digits.utf8.count) + digits
      }
    }
    return text + "\""
  }

  static func unquoted(_ text: some StringProtocol) -> [UInt8]? {
    guard text.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") else { return nil }
    var bytes: [UInt8] = []
    var rest = text.utf8.dropFirst().dropLast()[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "\\") else {
        bytes.append(byte)
        continue
      }
      guard let next = rest.first else { return nil }
      if next == UInt8(ascii: "\"") || next == UInt8(ascii: "\\") {
        bytes.append(next)
        rest = rest.dropFirst()
      } else {
        guard rest.count >= 3, let value = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8) else {
          return nil
        }
        bytes.append(value)
        rest = rest.dropFirst(3)
      }
    }
    return bytes
  }
}
