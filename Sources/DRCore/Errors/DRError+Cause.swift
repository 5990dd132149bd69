import Foundation

extension DRError {
  /// An error underneath, in words: those of Foundation and of decoders print their insides otherwise.
  package static func text(of cause: any Error) -> String {
    switch cause {
    case let error as DecodingError: text(of: error)
    case let error as POSIXError: String(cString: strerror(error.code.rawValue))
    case let error as CocoaError: text(of: error)
    default: withoutSources("\(cause)")
    }
  }

  /// What TLS says names the place in its own sources, by the path that it had where the program was built. Its words alone:
  /// `error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED at /…/handshake.cc:320`.
  private static func withoutSources(_ text: String) -> String {
    guard text.contains("OPENSSL_internal:") else { return text }
    let words = text.matches(of: /OPENSSL_internal:([A-Za-z0-9_ ]+?)(?= at |\]|$)/).map {
      $0.output.1.lowercased().replacing("_", with: " ")
    }
    return "TLS: \(words.joined(separator: ", "))"
  }

  private static func text(of error: CocoaError) -> String {
    if let underlying = error.underlying { return text(of: underlying) }
    return switch error.code {
    case .fileReadNoSuchFile, .fileNoSuchFile: "No such file or directory"
    case .fileReadNoPermission, .fileWriteNoPermission: "Permission denied"
    case .fileWriteOutOfSpace: "No space left on device"
    case .fileReadInapplicableStringEncoding: "it is no UTF-8 text"
    default: error.localizedDescription
    }
  }

  private static func text(of error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, let context):
      return "'\(path(context.codingPath + [key]))' is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      return (context.codingPath.isEmpty ? "" : "'\(path(context.codingPath))': ") + context.debugDescription
    @unknown default: return "\(error)"
    }
  }

  private static func path(_ keys: [any CodingKey]) -> String {
    keys.reduce(into: "") { path, key in
      path += key.intValue.map { "[\($0)]" } ?? (path.isEmpty ? "" : ".") + key.stringValue
    }
  }
}
