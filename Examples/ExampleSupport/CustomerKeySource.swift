import DRCore
import DRStorage
import Foundation

/// Where the key of SSE-C is: `file:PATH` or `environment:NAME`, never the key itself.
enum CustomerKeySource {
  /// - Parameter text: What follows `SSE-C:` in the configuration. No message shows it, for it may be a key.
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  static func key(_ text: Substring) throws -> S3CustomerKey {
    if text.hasPrefix("file:") {
      let path = String(text.dropFirst(5))
      let content = try SecretFile.read(path, "the file of the key of SSE-C")
      guard let key = content.count == 32 ? content : parse(content) else {
        throw noKey("the file of the key of SSE-C", object: path)
      }
      return try S3CustomerKey(key)
    }
    if text.hasPrefix("environment:") {
      let name = String(text.dropFirst(12))
      guard let value = ProcessInfo.processInfo.environment[name], !value.isEmpty else {
        throw DRError(
          .invalidConfiguration, "the environment has no variable with the key of SSE-C",
          advice: "set it for this program", object: name)
      }
      guard let key = parse(Array(value.utf8)) else {
        throw noKey("the environment's variable of the key of SSE-C", object: name)
      }
      return try S3CustomerKey(key)
    }
    throw DRError(
      .invalidConfiguration, "the key of SSE-C is given in no way that is known",
      advice: "write SSE-C:file:PATH or SSE-C:environment:NAME; never the key itself")
  }

  /// In base64, or in hexadecimal.
  private static func parse(_ bytes: [UInt8]) -> [UInt8]? {
    let text = String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    if text.utf8.count == 64, let key = hexadecimal(text) { return key }
    guard let key = Data(base64Encoded: text), key.count == 32 else { return nil }
    return Array(key)
  }

  private static func hexadecimal(_ text: String) -> [UInt8]? {
    let digits = text.compactMap(\.hexDigitValue)
    guard digits.count == text.utf8.count else { return nil }
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] * 16 + digits[$0 + 1]) }
  }

  private static func noKey(_ what: String, object: String) -> DRError {
    DRError(
      .invalidConfiguration, "\(what) holds no key of 32 bytes",
      advice:
        "make one by: head -c 32 /dev/urandom | base64. Whoever loses it loses the objects: keep it elsewhere too",
      object: object)
  }
}
