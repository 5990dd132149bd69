/// Looks for private keys in the content of a file, piece by piece, to its end, in bounded memory.
///
/// PEM and age identities anywhere, in UTF-16 too (``KeyMarkers``); at the beginning DER (``DERKey``), PuTTY keys, and WireGuard's
/// configurations.
struct SecretScanner {
  private let length: Int64
  private var text = KeyMarkers()
  /// Of a file in UTF-16: every other byte.
  private var narrowed = KeyMarkers()
  /// Which bytes of such a file count, the even or the odd ones.
  private var parity: Int64?
  private var position: Int64 = 0
  /// The beginning, until it is whole.
  private var head: [UInt8]? = []
  private var hasKeyAtHead = false

  private static let headSize = 16 << 10
  private static let putty = [UInt8]("PuTTY-User-Key-File-".utf8)

  var isSecret: Bool { hasKeyAtHead || text.isFound || narrowed.isFound }

  /// - Parameter length: Of the file.
  init(length: Int64) { self.length = length }

  mutating func scan(_ piece: UnsafeRawBufferPointer) {
    guard !isSecret, !piece.isEmpty else { return }
    text.scan(piece)
    if var bytes = head {
      bytes += piece.prefix(SecretScanner.headSize - bytes.count)
      let isWhole = bytes.count >= min(length, Int64(SecretScanner.headSize))
      head = isWhole ? nil : bytes
      if isWhole {
        hasKeyAtHead = bytes.withUnsafeBytes { look($0) }
        parity = SecretScanner.parity(bytes)
        if parity != nil { bytes.withUnsafeBytes { narrow($0, at: 0) } }
      }
      if isWhole, parity != nil {
        let rest = UnsafeRawBufferPointer(rebasing: piece.dropFirst(bytes.count - Int(position)))
        narrow(rest, at: Int64(bytes.count))
      }
    } else if parity != nil {
      narrow(piece, at: position)
    }
    position += Int64(piece.count)
  }

  private mutating func narrow(_ piece: UnsafeRawBufferPointer, at offset: Int64) {
    guard let parity else { return }
    let first = Int((parity - offset) & 1)
    let bytes = stride(from: first, to: piece.count, by: 2).map { piece[$0] }
    bytes.withUnsafeBytes { narrowed.scan($0) }
  }

  /// UTF-16 says what it is, or begins with two characters of ASCII.
  private static func parity(_ head: [UInt8]) -> Int64? {
    guard head.count >= 4 else { return nil }
    func isText(_ byte: UInt8) -> Bool { (0x20..<0x7F).contains(byte) || (0x09...0x0D).contains(byte) }
    if head[0] == 0xFF, head[1] == 0xFE { return 0 }
    if head[0] == 0xFE, head[1] == 0xFF { return 1 }
    if isText(head[0]), head[1] == 0, isText(head[2]), head[3] == 0 { return 0 }
    if head[0] == 0, isText(head[1]), head[2] == 0, isText(head[3]) { return 1 }
    return nil
  }

  private func look(_ head: UnsafeRawBufferPointer) -> Bool {
    if DERKey.isPrivate(head, length: length) { return true }
    if ByteSearch.position(of: SecretScanner.putty, in: head, from: 0) != nil { return true }
    return length <= SecretScanner.headSize && SecretScanner.isWireGuard(head)
  }

  /// `PrivateKey = `, and 32 bytes in base64.
  private static func isWireGuard(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let name = [UInt8]("PrivateKey".utf8)
    var start = 0
    while let found = ByteSearch.position(of: name, in: bytes, from: start) {
      start = found + name.count
      var rest = bytes[start...].drop { $0 == 0x20 || $0 == 0x09 }
      guard rest.first == UInt8(ascii: "=") else { continue }
      rest = rest.dropFirst().drop { $0 == 0x20 || $0 == 0x09 }
      if rest.prefix(44).count == 44, rest.prefix(43).allSatisfy(isBase64),
        rest.dropFirst(43).first == UInt8(ascii: "=")
      {
        return true
      }
    }
    return false
  }

  private static func isBase64(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"):
      true
    default: false
    }
  }
}
