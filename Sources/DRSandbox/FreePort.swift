import DRCore
import Foundation

/// A TCP port that is free now.
package func freePort() throws -> UInt16 {
  #if canImport(Darwin)
    let type = SOCK_STREAM
  #else
    let type = Int32(SOCK_STREAM.rawValue)
  #endif
  let descriptor = socket(AF_INET, type, 0)
  defer { if descriptor >= 0 { close(descriptor) } }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  let bound = withUnsafeMutablePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      descriptor >= 0 && bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
    }
  }
  guard bound else { throw DRError(.invalidConfiguration, "no free port: \(lastError())") }
  return UInt16(bigEndian: address.sin_port)
}
