/// A block of a PEM text (RFC 7468), with any text around it: pure. One that cannot be read hides no other.
struct PEMBlock {
  /// `CERTIFICATE`, `PRIVATE KEY` and the like.
  let label: String
  private(set) var lines: [String]
  /// Whether its header says so (RFC 1421): what it holds is no DER then.
  private(set) var isEncrypted = false

  var text: String { lines.joined(separator: "\n") }

  static func all(in content: UnsafeRawBufferPointer) -> [PEMBlock] {
    var blocks: [PEMBlock] = []
    var current: PEMBlock?
    for line in content.split(separator: UInt8(ascii: "\n")) {
      var text = line[...]
      while let last = text.last, last == 0x0D || last == 0x20 || last == 0x09 { text = text.dropLast() }
      if text.starts(with: "-----BEGIN ".utf8) {
        let label = text.dropFirst(11).prefix { $0 != UInt8(ascii: "-") }
        current = PEMBlock(
          label: String(decoding: label, as: UTF8.self), lines: [String(decoding: text, as: UTF8.self)])
      } else if var block = current {
        block.lines.append(String(decoding: text, as: UTF8.self))
        if text.starts(with: "Proc-Type:".utf8), text.suffix(9).elementsEqual("ENCRYPTED".utf8) {
          block.isEncrypted = true
        }
        current = block
        guard text.starts(with: "-----END ".utf8) else { continue }
        blocks.append(block)
        current = nil
      }
    }
    // One that is cut off is one that cannot be read.
    if let current { blocks.append(current) }
    return blocks
  }
}
