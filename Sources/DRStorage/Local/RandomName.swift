/// Names that nobody else has.
package enum RandomName {
  /// 128 random bits in lower-case hexadecimal.
  package static func hex() -> String {
    var generator = SystemRandomNumberGenerator()
    let digits = Array("0123456789abcdef")
    return String((0..<32).map { _ in digits[Int.random(in: 0..<16, using: &generator)] })
  }
}
