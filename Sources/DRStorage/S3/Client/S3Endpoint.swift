import DRCore

import struct Foundation.URL

/// Where a bucket is asked for: the address, and how the bucket is named in a request.
package struct S3Endpoint: Sendable, Hashable {
  /// `http` or `https`.
  let scheme: String
  /// With the port, if it is not the scheme's own: as the `Host` header has it.
  let host: String
  /// What comes before every key: `/bucket` or nothing.
  let basePath: String

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  init(_ configuration: S3Configuration) throws {
    func refuse(_ why: String) -> DRError {
      DRError(
        .invalidConfiguration, "the endpoint '\(configuration.endpoint ?? "")' \(why)",
        advice: "write it as https://host or https://host:port")
    }
    let bucket = configuration.bucket
    let known = bucket.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
        true
      default: false
      }
    }
    guard known, (3...255).contains(bucket.utf8.count), bucket != ".." else {
      throw DRError(
        .invalidConfiguration,
        known
          ? "'\(bucket.prefix(80))' cannot be the name of a bucket"
          // It may be more than a name: somebody's keys, as in a URL.
          : "what is given as the name of a bucket holds other characters",
        advice: "use 3 to 63 lower-case letters, digits, dots and hyphens")
    }
    let text = configuration.endpoint ?? "https://s3.\(configuration.region).amazonaws.com"
    guard let url = URL(string: text), let scheme = url.scheme?.lowercased(), ["http", "https"].contains(scheme) else {
      throw refuse("is not the URL of a server")
    }
    guard let name = url.host, !name.isEmpty, url.user == nil, url.password == nil, url.query == nil,
      url.fragment == nil, ["", "/"].contains(url.path)
    else { throw refuse("holds more, or less, than a host and a port") }
    let bare = name.filter { $0 != "[" && $0 != "]" }
    let address = bare.contains(":") ? "[\(bare)]" : bare
    let port = url.port.flatMap { $0 == (scheme == "https" ? 443 : 80) ? nil : ":\($0)" } ?? ""
    self.scheme = scheme
    let style =
      switch configuration.addressing {
      case .automatic: configuration.isAWS && !(bucket.contains(".") && scheme == "https")
      case .path: false
      case .virtualHost: true
      }
    host = (style ? "\(bucket)." : "") + address + port
    basePath = style ? "" : "/\(bucket)"
  }

  /// The path of a request, not encoded.
  ///
  /// - Parameter key: Nil: the bucket itself.
  func path(_ key: String?) -> String {
    guard let key else { return basePath.isEmpty ? "/" : basePath }
    return "\(basePath)/\(key)"
  }

  func url(path: String, query: String) -> String {
    "\(scheme)://\(host)\(PercentEncoding.path(path))" + (query.isEmpty ? "" : "?\(query)")
  }
}
