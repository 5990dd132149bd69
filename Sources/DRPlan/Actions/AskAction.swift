import DRCore

/// Asks a person, who has the step's limit for an answer; no answer is no.
public struct AskAction: RecoveryAction {
  public var question: String
  private let ask: @Sendable (String) async throws -> Bool

  /// - Parameter ask: Puts the question; true is yes. It must answer to cancellation, by which the step's limit ends it.
  public init(_ question: String, by ask: @escaping @Sendable (String) async throws -> Bool) {
    self.question = question
    self.ask = ask
  }

  public var summary: String { "ask: \(question)" }

  public func perform() async throws -> String {
    guard try await ask(question) else {
      throw DRError(.invalidConfiguration, "the answer to '\(question)' is no", advice: "this step was not wanted")
    }
    return "the answer is yes"
  }
}
