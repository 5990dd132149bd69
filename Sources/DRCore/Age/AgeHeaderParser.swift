import NIOCore

/// Reads an age header as its bytes come in, strictly: one way to write each header is accepted.
struct AgeHeaderParser {
  private enum Expected {
    case version, stanzaOrEnd, body
  }

  private static let magic = Array("age-encryption.org/".utf8)
  private static let armor = Array("-----BEGIN AGE ENCRYPTED FILE-----".utf8)

  private let object: String
  private var expected = Expected.version
  private var bytes: [UInt8] = []
  private var lineStart = 0
  private var lineNumber = 1
  private var stanzas: [AgeHeader.Stanza] = []

  init(object: String) { self.object = object }

  /// Takes what belongs to the header off the input. Gives the header when its last line is whole.
  ///
  /// - Throws: ``DRError``: `malformedData` naming the line, `unsupportedVersion`.
  mutating func update(_ input: inout ByteBuffer) throws -> AgeHeader? {
    while input.readableBytes > 0 {
      let view = input.readableBytesView
      let lineEnd = view.firstIndex(of: UInt8(ascii: "\n"))
      let taken = lineEnd.map { $0 + 1 - view.startIndex } ?? view.count
      guard bytes.count + taken <= AgeHeader.maximumSize else {
        throw malformed("is longer than \(AgeHeader.maximumSize) bytes")
      }
      bytes += view.prefix(taken)
      input.moveReaderIndex(forwardBy: taken)
      if lineNumber == 1 { try checkBeginning() }
      guard lineEnd != nil else { return nil }
      if let header = try take(line: bytes[lineStart..<bytes.count - 1]) { return header }
      lineStart = bytes.count
      lineNumber += 1
    }
    return nil
  }

  /// What to say when the data ends before the header does.
  var truncated: DRError {
    bytes.isEmpty
      ? DRError(.truncatedData, "it is empty, and age data never is", object: object)
      : DRError(.truncatedData, "it ends within its age header", object: object)
  }

  /// Refuses other data at its first byte that differs, not at its first line feed.
  private func checkBeginning() throws {
    func startsLike(_ text: [UInt8]) -> Bool { zip(bytes, text).allSatisfy { $0 == $1 } }
    if startsLike(Self.magic) { return }
    if startsLike(Self.armor) {
      guard bytes.count >= Self.armor.count else { return }
      throw DRError(
        .malformedData, "it is armored age data (text), and only the binary form is read here",
        advice: "decode it first: sed '1d;$d' FILE | base64 -d > FILE.age", object: object)
    }
    throw DRError(
      .malformedData, "it is no age data: it does not begin with 'age-encryption.org/'",
      advice: "check that this object was encrypted, and is the right one", object: object)
  }

  private mutating func take(line: ArraySlice<UInt8>) throws -> AgeHeader? {
    switch expected {
    case .version:
      try takeVersion(line)
      expected = .stanzaOrEnd
    case .stanzaOrEnd where line.starts(with: "---".utf8):
      return try takeEnd(line)
    case .stanzaOrEnd:
      try takeArguments(line)
      expected = .body
    case .body:
      guard line.count <= 64, let data = AgeBase64.decode(line) else {
        throw malformed("is no base 64 of at most 64 columns")
      }
      stanzas[stanzas.count - 1].body += data
      if line.count < 64 { expected = .stanzaOrEnd }
    }
    return nil
  }

  private func takeVersion(_ line: ArraySlice<UInt8>) throws {
    if line.elementsEqual(AgeHeader.versionLine.utf8) { return }
    let version = line.dropFirst(Self.magic.count)
    guard !version.isEmpty, version.allSatisfy(Self.isVisible) else {
      throw malformed("is no version line (was the file changed on its way, as text?)")
    }
    throw DRError(
      .unsupportedVersion,
      "it is age data of version '\(String(decoding: version.prefix(20), as: UTF8.self))', and this reads v1",
      advice: "use a later version of this library, or age -d", object: object)
  }

  private mutating func takeArguments(_ line: ArraySlice<UInt8>) throws {
    guard line.starts(with: "-> ".utf8) else { throw malformed("is neither a recipient nor the end") }
    let arguments = line.dropFirst(3).split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
    guard let type = arguments.first, arguments.allSatisfy({ !$0.isEmpty && $0.allSatisfy(Self.isVisible) }) else {
      throw malformed("has an empty argument or one with characters that are not allowed")
    }
    guard stanzas.count < AgeHeader.maximumStanzas else {
      throw malformed("is one recipient too many: at most \(AgeHeader.maximumStanzas) are read")
    }
    stanzas.append(
      AgeHeader.Stanza(
        type: String(decoding: type, as: UTF8.self),
        arguments: arguments.dropFirst().map { String(decoding: $0, as: UTF8.self) }, body: []))
  }

  private func takeEnd(_ line: ArraySlice<UInt8>) throws -> AgeHeader {
    guard !stanzas.isEmpty else { throw malformed("ends a header without recipients") }
    guard line.starts(with: "--- ".utf8), let code = AgeBase64.decode(line.dropFirst(4)), code.count == 32 else {
      throw malformed("has no authentication code of the right form")
    }
    return AgeHeader(
      stanzas: stanzas, authenticated: Array(bytes[..<(lineStart + 3)]), code: code, size: bytes.count)
  }

  private static func isVisible(_ byte: UInt8) -> Bool { (0x21...0x7E).contains(byte) }

  private func malformed(_ why: String) -> DRError {
    DRError(
      .malformedData, "line \(lineNumber) of its age header \(why)", advice: "restore from another copy", object: object
    )
  }
}
