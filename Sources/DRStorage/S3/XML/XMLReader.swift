import DRCore
import Foundation
package import NIOCore

#if canImport(FoundationXML)
  import FoundationXML
#endif

/// Reads an S3 server's answer. Whoever sends it is not trusted: a document type declaration (where entities come from),
/// depth and number of elements are refused beyond what S3 has.
package enum XMLReader {
  static let deepest = 32
  static let most = 100_000

  /// - Throws: ``DRCore/DRError`` with `malformedData`.
  package static func read(_ buffer: ByteBuffer) throws -> XMLElement {
    let data = Data(buffer.readableBytesView)
    guard data.range(of: Data("<!DOCTYPE".utf8)) == nil else {
      throw DRError(.malformedData, "the XML holds a document type declaration")
    }
    let builder = Builder()
    let parser = XMLParser(data: data)
    parser.shouldResolveExternalEntities = false
    parser.delegate = builder
    guard parser.parse(), let root = builder.root else {
      throw DRError(.malformedData, builder.refusal ?? "the answer is not well-formed XML")
    }
    return root
  }

  private final class Builder: NSObject, XMLParserDelegate {
    var root: XMLElement?
    var refusal: String?
    private var open: [XMLElement] = []
    private var count = 0

    func parser(
      _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
      attributes: [String: String]
    ) {
      count += 1
      guard open.count < deepest, count <= most, root == nil else {
        refusal = "the XML has too many elements or is nested too deeply"
        parser.abortParsing()
        return
      }
      open.append(XMLElement(String(name.split(separator: ":").last ?? "")))
    }

    func parser(_ parser: XMLParser, foundCharacters text: String) {
      if !open.isEmpty { open[open.count - 1].text += text }
    }

    func parser(_ parser: XMLParser, foundCDATA data: Data) {
      if !open.isEmpty { open[open.count - 1].text += String(decoding: data, as: UTF8.self) }
    }

    func parser(_ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?) {
      guard var element = open.popLast() else { return }
      if !element.children.isEmpty { element.text = "" }
      if open.isEmpty { root = element } else { open[open.count - 1].children.append(element) }
    }
  }
}
