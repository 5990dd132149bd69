import Foundation

extension DRError {
  /// An error underneath, in words: those of Foundation and of decoders print their insides otherwise.
  package static func text(of cause: any Error) -> String {
    switch cause {
    case let error as DecodingError: text(of: error)
    case let error as POSIXError: String(cString: strerror(error.code.rawValue))
    case let error as CocoaError: text(of: error)
    default: "\(cause)"
    }
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
