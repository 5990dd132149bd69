/// The name of an object in a tier: path components with `/` between them.
///
/// A key cannot escape the root that it is resolved against: it has no empty, `.` or `..` component, no leading or
/// trailing slash, no NUL, no control character and no backslash, and no component that starts like a temporary file.
public struct ObjectKey: Hashable, Sendable, Comparable, CustomStringConvertible {
  public let rawValue: String

  /// Names with this prefix are a tier's own: never an object.
  package static let temporaryPrefix = ".dr-tmp-"

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
    for component in text.split(separator: "/", omittingEmptySubsequences: false) {
      guard !component.isEmpty else { throw refuse("must not start or end with a slash, nor hold two in a row") }
      guard component != ".", component != ".." else { throw refuse("must not hold '.' or '..' as a component") }
      guard component.utf8.count <= 255 else { throw refuse("must not have a component of over 255 bytes") }
      guard !component.hasPrefix(ObjectKey.temporaryPrefix) else { throw refuse("must not look like a temporary file") }
    }
    rawValue = text
  }

  /// The key below this one.
  ///
  /// - Throws: ``DRError`` with `invalidKey`.
  public func appending(_ component: String) throws -> ObjectKey { try ObjectKey("\(rawValue)/\(component)") }

  /// The last component.
  public var lastComponent: String { String(rawValue.split(separator: "/").last ?? "") }

  public var description: String { rawValue }

  public static func < (left: ObjectKey, right: ObjectKey) -> Bool {
    left.rawValue.utf8.lexicographicallyPrecedes(right.rawValue.utf8)
  }
}
