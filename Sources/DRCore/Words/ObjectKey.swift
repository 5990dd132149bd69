/// The name of an object in a tier: path components with `/` between them.
///
/// A key cannot escape the root that it is resolved against: it has no empty, `.` or `..` component, no leading or
/// trailing slash, no NUL, no control character and no backslash, and no component that starts like a temporary file.
public struct ObjectKey: Hashable, Sendable, Comparable, CustomStringConvertible {
  public let rawValue: String

  /// Names with this prefix are a tier's own: never an object.
  package static let temporaryPrefix = ".dr-tmp-"

  package static func isTemporary(_ component: String) -> Bool { component.utf8.starts(with: temporaryPrefix.utf8) }

  /// Checks a key.
  ///
  /// - Throws: ``DRError`` with `invalidKey`. A key has at most 1,024 bytes (the limit of S3), a component at most 255.
  public init(_ text: String) throws {
    func refuse(_ why: String) -> DRError {
      DRError(.invalidKey, "an object key \(why)", object: String(text.prefix(200)).debugDescription)
    }
    guard !text.isEmpty, text.utf8.count <= 1024 else { throw refuse("must have 1 to 1,024 bytes") }
    guard text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F && $0 != "\\" }) else {
      throw refuse("must not hold control characters, NUL or backslashes")
    }
    for component in ObjectKey.components(of: text) {
      guard !component.isEmpty else { throw refuse("must not start or end with a slash, nor hold two in a row") }
      guard component != ".", component != ".." else { throw refuse("must not hold '.' or '..' as a component") }
      guard component.utf8.count <= 255 else { throw refuse("must not have a component of over 255 bytes") }
      guard !ObjectKey.isTemporary(component) else { throw refuse("must not look like a temporary file") }
    }
    rawValue = text
  }

  /// The key below this one.
  ///
  /// - Throws: ``DRError`` with `invalidKey`.
  public func appending(_ component: String) throws -> ObjectKey { try ObjectKey("\(rawValue)/\(component)") }

  /// The last component.
  public var lastComponent: String { components.last ?? rawValue }

  /// What lies between the slashes.
  package var components: [String] { ObjectKey.components(of: rawValue) }

  /// Split by bytes, as a file system does it: for Swift, a slash and a combining accent after it are one character, and
  /// no slash.
  private static func components(of text: String) -> [String] {
    text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { String(Substring($0)) }
  }

  /// The rest of a key that starts with these bytes, or nil.
  package func rest(after prefix: String) -> String? {
    guard rawValue.utf8.starts(with: prefix.utf8) else { return nil }
    return String(Substring(rawValue.utf8.dropFirst(prefix.utf8.count)))
  }

  public var description: String { rawValue }

  /// By bytes: for Swift, two spellings of an accented letter are one string, for a tier they are two objects.
  public static func == (left: ObjectKey, right: ObjectKey) -> Bool {
    left.rawValue.utf8.elementsEqual(right.rawValue.utf8)
  }

  public func hash(into hasher: inout Hasher) {
    var text = rawValue
    text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }

  public static func < (left: ObjectKey, right: ObjectKey) -> Bool {
    left.rawValue.utf8.lexicographicallyPrecedes(right.rawValue.utf8)
  }
}
