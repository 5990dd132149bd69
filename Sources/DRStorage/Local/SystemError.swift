import DRCore

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// A system call that failed, before it is known what that means for the tier.
package struct SystemError: Error {
  package let call: String
  package let number: Int32

  package init(_ call: String, _ number: Int32 = errno) {
    self.call = call
    self.number = number
  }

  /// What was being done: the same refusal has another meaning for a reader than for a writer.
  enum Intent {
    case reading
    case writing
  }

  /// Says it in the tier's words.
  func translated(_ intent: Intent, tier: String, object: String?) -> DRError {
    let reason = "\(call): \(String(cString: strerror(number)))"
    switch (number, intent) {
    case (ENOSPC, _), (EDQUOT, _), (EFBIG, .writing):
      return DRError(
        .noSpace, "no space left on \(tier) (\(reason))",
        advice: "free space or raise the quota; what was stored before is unharmed", object: object)
    case (EROFS, .writing), (EACCES, .writing), (EPERM, .writing):
      return DRError(
        .notWritable, "\(tier) cannot be written (\(reason))",
        advice: "check that the file system is mounted read-write and who owns the folder", object: object)
    case (EACCES, .reading), (EPERM, .reading):
      return DRError(
        .tierUnavailable, "\(tier) may not be read (\(reason))",
        advice: "run as the user that owns the folder, or give it back to that user", object: object)
    case (ENAMETOOLONG, _), (EILSEQ, _):
      return DRError(
        .invalidKey, "the file system of \(tier) cannot hold this name (\(reason))",
        advice: "use a shorter name or another file system", object: object)
    case (EMFILE, _), (ENFILE, _):
      return DRError(
        .tierUnavailable, "too many files are open to reach \(tier) (\(reason))",
        advice: "raise the limit of open files (ulimit -n)", object: object)
    default:
      return DRError(
        .tierUnavailable, "\(tier) failed (\(reason))",
        advice: "look at the disk and its mount (dmesg, mount), then try again", object: object)
    }
  }
}

/// Makes a call for which some failures are an answer: nil stands for them.
@discardableResult
package func allowing<Result>(
  _ numbers: Int32..., call: () throws(SystemError) -> Result
) throws(SystemError) -> Result? {
  do {
    return try call()
  } catch  where numbers.contains(error.number) {
    return nil
  }
}

/// Calls again while a signal interrupts, and throws for a result below zero.
@discardableResult
package func systemCall<Result: SignedInteger>(_ name: String, _ body: () -> Result) throws(SystemError) -> Result {
  while true {
    let result = body()
    if result >= 0 { return result }
    let number = errno
    if number != EINTR { throw SystemError(name, number) }
  }
}
