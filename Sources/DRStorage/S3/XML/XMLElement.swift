/// One element of a small XML document: an answer of an S3 server. Namespaces and attributes are dropped.
package struct XMLElement: Hashable, Sendable {
  package var name: String
  /// The text right inside, with the space around it if it has no children.
  package var text: String
  package var children: [XMLElement]

  package init(_ name: String, text: String = "", children: [XMLElement] = []) {
    self.name = name
    self.text = text
    self.children = children
  }

  package subscript(_ name: String) -> XMLElement? { children.first { $0.name == name } }

  /// The text of the first child of this name.
  package func text(_ name: String) -> String? { self[name]?.text }

  package func all(_ name: String) -> [XMLElement] { children.filter { $0.name == name } }

  /// The document as text, for a request's body.
  package var document: String { "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + rendered(root: true) }

  private func rendered(root: Bool = false) -> String {
    let namespace = root ? " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"" : ""
    return "<\(name)\(namespace)>" + XMLElement.escape(text) + children.map { $0.rendered() }.joined() + "</\(name)>"
  }

  /// Control characters cannot be said in XML 1.0; an object key has none.
  private static func escape(_ text: String) -> String {
    var escaped = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case "\r": escaped += "&#13;"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}
