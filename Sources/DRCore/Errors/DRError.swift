/// What went wrong, to what, and what to do next.
///
/// The code is stable across releases: scripts and alerts may match on it. The message and the advice are for the
/// person on call. No secret is ever put into any of the fields.
public struct DRError: Error, Sendable, CustomStringConvertible {
  /// A stable name for a kind of failure.
  public struct Code: Hashable, Sendable, CustomStringConvertible, ExpressibleByStringLiteral {
    /// The stable text, for example `object-not-found`.
    public let rawValue: String

    /// Creates a code from its stable text.
    public init(stringLiteral value: String) { rawValue = value }

    public var description: String { rawValue }
  }

  /// What kind of failure this is.
  public var code: Code
  /// What happened, in one sentence.
  public var message: String
  /// What the operator can do next, where that is known.
  public var advice: String?
  /// The component that it happened to, for example `postgres/agent_orchestrator`.
  public var component: Component?
  /// The object, file, segment or page that it happened to.
  public var object: String?
  /// The error underneath, if there was one.
  public var cause: (any Error)?

  /// Creates an error.
  public init(
    _ code: Code, _ message: String, advice: String? = nil, component: Component? = nil, object: String? = nil,
    cause: (any Error)? = nil
  ) {
    self.code = code
    self.message = message
    self.advice = advice
    self.component = component
    self.object = object
    self.cause = cause
  }

  /// One paragraph: code, message, object, cause, and the advice of this error and of those underneath.
  public var description: String {
    let all = advices
    return all.isEmpty ? sentence : sentence.followed(by: "What to do: \(all.joined(separator: "; "))")
  }

  private var sentence: String {
    var text = "[\(code)] \(message)"
    if let component { text += " (component \(component))" }
    if let object { text += " (object \(object))" }
    guard let cause else { return text }
    return text.withoutFullStop + "; caused by: \((cause as? DRError)?.sentence ?? DRError.text(of: cause))"
  }

  /// The outermost first, each once.
  private var advices: [String] {
    let below = (cause as? DRError)?.advices ?? []
    guard let advice else { return below }
    return [advice] + below.filter { $0 != advice }.map(\.withoutFullStop)
  }
}

extension DRError.Code {
  /// The object is not in the tier. Reaching the tier worked: it is truly absent.
  public static let objectNotFound: Self = "object-not-found"
  /// A conditional put found an object already there.
  public static let objectExists: Self = "object-exists"
  /// A conditional put found another object than the one it was to replace.
  public static let preconditionFailed: Self = "precondition-failed"
  /// The object is held by a retention lock or a legal hold.
  public static let objectLocked: Self = "object-locked"
  /// The object is in an archive class and must be thawed before it can be read.
  public static let objectArchived: Self = "object-archived"
  /// The tier cannot do what was asked of it: it is not among its capabilities.
  public static let unsupported: Self = "unsupported"
  /// Another process holds the lease.
  public static let leaseHeld: Self = "lease-held"
  /// The lease ended, or was taken over, while work that it guards went on.
  public static let leaseLost: Self = "lease-lost"
  /// A change-log segment of this name exists with other content.
  public static let segmentConflict: Self = "segment-conflict"
  /// An object key or a file name could escape its folder, or is otherwise unusable.
  public static let invalidKey: Self = "invalid-key"
  /// The tier could not be reached or answered with a failure: nothing is known about the object.
  public static let tierUnavailable: Self = "tier-unavailable"
  /// There is no space left.
  public static let noSpace: Self = "no-space"
  /// The tier cannot be written: read-only or not permitted.
  public static let notWritable: Self = "not-writable"
  /// Stored bytes are not the bytes that were written: a digest, a checksum or an authentication tag differs.
  public static let corruptData: Self = "corrupt-data"
  /// Bytes that do not follow their format.
  public static let malformedData: Self = "malformed-data"
  /// The data ends before it is complete.
  public static let truncatedData: Self = "truncated-data"
  /// Made by a later version than this library reads.
  public static let unsupportedVersion: Self = "unsupported-version"
  /// None of the given identities opens this encrypted data.
  public static let noMatchingIdentity: Self = "no-matching-identity"
  /// An argument or a configuration that cannot work.
  public static let invalidConfiguration: Self = "invalid-configuration"
  /// A time limit was reached.
  public static let timedOut: Self = "timed-out"
  /// The destination of a restore holds data or is in use.
  public static let destinationInUse: Self = "destination-in-use"
  /// No backup can reach the recovery target.
  public static let targetUnreachable: Self = "target-unreachable"
  /// The recovery target means different things on different branches of the log, and it was not said which one to follow.
  public static let targetAmbiguous: Self = "target-ambiguous"
  /// The change log does not continue where it ended.
  public static let changeLogGap: Self = "change-log-gap"
  /// The protected system refused, failed or broke the connection.
  public static let sourceFailed: Self = "source-failed"
  /// The protected system's own data is damaged.
  public static let sourceDamaged: Self = "source-damaged"
  /// A program that is needed is not installed, or ended with a failure.
  public static let programFailed: Self = "program-failed"
}
