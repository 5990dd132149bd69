import Foundation

/// Who did something: a person, or the account that stands for one, on a host, with a program.
public struct Operator: Hashable, Sendable, Codable, CustomStringConvertible {
  public var name: String
  public var host: String
  public var program: String
  public var version: String

  public init(name: String, host: String, program: String, version: String = Library.version) {
    self.name = name
    self.host = host
    self.program = program
    self.version = version
  }

  /// Who runs this process: with `sudo`, who called it.
  public static func current(program: String, version: String = Library.version) -> Operator {
    var host = [CChar](repeating: 0, count: 256)
    let isNamed = gethostname(&host, host.count - 1) == 0
    let environment = ProcessInfo.processInfo.environment
    let caller = environment["SUDO_USER"].flatMap { $0.isEmpty ? nil : $0 }
    let account = NSUserName()
    return Operator(
      name: (caller.map { "\($0) as \(account)" } ?? account).isEmpty
        ? "uid \(getuid())" : caller.map { "\($0) as \(account)" } ?? account,
      host: isNamed
        ? String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) : "unknown",
      program: program, version: version)
  }

  public var description: String { "\(name) on \(host), \(program) \(version)" }
}
