public import struct Foundation.Date

/// What a put that has not ended, or was killed, has stored so far. No other call of a tier shows it.
public struct UnfinishedUpload: Hashable, Sendable, CustomStringConvertible {
  public enum Kind: String, Hashable, Sendable {
    /// An upload in parts that was not completed.
    case upload
    /// The file of a put into a folder.
    case temporaryFile = "temporary file"
    /// An object by which a server was tried out.
    case probe
  }

  public var kind: Kind
  /// Below the tier's own root or prefix: the key that was to be, or the name of the file. For people.
  public var name: String
  /// Stored so far, in bytes.
  public var size: Int64
  /// The last sign of life, on the tier's clock.
  public var alive: Date

  public init(kind: Kind, name: String, size: Int64, alive: Date) {
    self.kind = kind
    self.name = name
    self.size = size
    self.alive = alive
  }

  public var description: String {
    "\(kind.rawValue) \(name) (\(size) bytes, last sign of life \(Timestamp.format(alive)))"
  }
}
