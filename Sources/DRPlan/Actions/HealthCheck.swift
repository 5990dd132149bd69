import AsyncHTTPClient
import DRCore
import Foundation
import NIOCore
import NIOPosix

/// Waits until a service answers, looking again and again until the step's limit.
public struct HealthCheck: RecoveryAction {
  public enum Probe: Hashable, Sendable {
    /// A GET that is answered with this status.
    case http(url: String, status: Int)
    /// A connection that is taken.
    case tcp(host: String, port: Int)

    /// Reads `host:port`; an IPv6 address stands in brackets. Nil for what is none.
    static func tcp(_ place: String) -> Probe? {
      guard let colon = place.lastIndex(of: ":"), let port = Int(place[place.index(after: colon)...]),
        (1...65_535).contains(port), colon > place.startIndex
      else { return nil }
      return .tcp(host: place[..<colon].trimmingCharacters(in: ["[", "]"]), port: port)
    }
  }

  public var probe: Probe
  /// Between two looks.
  public var interval: Span
  /// How long one look may take.
  public var patience: Span
  private var looksAgain = true

  public init(_ probe: Probe, every interval: Span = .seconds(1), patience: Span = .seconds(5)) {
    self.probe = probe
    self.interval = interval
    self.patience = patience
  }

  /// One look, whose answer counts: for a probe.
  public var once: HealthCheck {
    var once = self
    once.looksAgain = false
    return once
  }

  public var summary: String {
    switch probe {
    case .http(let url, let status): "wait until \(url.withoutSecrets) answers \(status)"
    case .tcp(let host, let port): "wait until \(host):\(port) takes a connection"
    }
  }

  public func perform() async throws -> String {
    var looks = 0
    var seen: (any Error)?
    while true {
      looks += 1
      do {
        return try await look() + " (looked \(looks) times)"
      } catch let error as DRError where error.code == .invalidConfiguration {
        throw error
      } catch  where Task.isCancelled {
        // A look that was cut short has seen nothing.
      } catch {
        guard looksAgain else { throw error }
        seen = error
        try? await Task.sleep(for: interval.duration)
      }
      if Task.isCancelled { throw seen.map { StillWaiting($0) } ?? CancellationError() }
    }
  }

  private func look() async throws -> String {
    switch probe {
    case .http(let url, let wanted):
      guard url.hasPrefix("http://") || url.hasPrefix("https://") else {
        throw DRError(.invalidConfiguration, "a health check's URL begins with http:// or https://")
      }
      let response = try await HTTPClient.shared.execute(
        HTTPClientRequest(url: url), timeout: TimeAmount(patience.duration))
      // The connection is of use again only once the body was taken.
      _ = try? await response.body.collect(upTo: 1 << 20)
      guard Int(response.status.code) == wanted else {
        throw DRError(.sourceFailed, "\(url.withoutSecrets) answers \(response.status.code)")
      }
      return "\(url.withoutSecrets) answers \(wanted)"
    case .tcp(let host, let port):
      let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .connectTimeout(TimeAmount(patience.duration)).connect(host: host, port: port).get()
      try? await channel.close()
      return "\(host):\(port) takes a connection"
    }
  }
}

extension String {
  /// A URL without a password or a query, which may hold a key.
  fileprivate var withoutSecrets: String {
    let plain = prefix { $0 != "?" }
    guard let scheme = plain.firstRange(of: "://"), let at = plain[scheme.upperBound...].firstIndex(of: "@"),
      !plain[scheme.upperBound..<at].contains("/")
    else { return String(plain) }
    return plain[..<scheme.upperBound] + "…" + plain[at...]
  }
}
