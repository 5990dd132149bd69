import Foundation
public import Logging

/// The log of a program: plain lines on standard error, warnings and up unless asked for more.
public enum ProgramLog {
  public static func make(_ label: String, verbose: Bool) -> Logger {
    var logger = Logger(label: label, factory: StreamLogHandler.standardError(label:))
    logger.logLevel = verbose ? .info : .warning
    return logger
  }
}
