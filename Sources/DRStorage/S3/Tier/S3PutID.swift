/// The random name by which a put knows its own object again, kept in the object's metadata.
enum S3PutID {
  static let header = "x-amz-meta-dr-put"

  static func make() -> String {
    var generator = SystemRandomNumberGenerator()
    return Hex.lowercase((0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) })
  }
}
