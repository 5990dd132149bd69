public import DRCore

/// What is to be done after a disaster, as a value: steps, what each needs before it, and how long it may take.
///
/// A plan is checked when it is made: steps have names of their own, need what is there, and need nothing in a circle. ``RecoveryRun`` carries
/// it out.
public struct RecoveryPlan: Sendable {
  public struct Step: Sendable {
    /// Lower-case letters, digits and hyphens: the name by which others need it, and under which it is in the journal.
    public var id: String
    /// For people.
    public var title: String
    public var component: Component?
    /// The steps that must be done before it.
    public var needs: [String]
    public var priority: Objective.Priority
    /// How long it may take. Longer is said in the report, and fails the run's verdict.
    public var budget: Span
    /// When an attempt is given up.
    public var limit: Span
    /// How often it is tried, 1 to 100.
    public var attempts: Int
    /// Between two attempts.
    public var pause: Span
    public var action: any RecoveryAction
    /// Whether it is needed at all: a step that is not is skipped, and what needs it goes on. An action that throws `programFailed` or
    /// `sourceFailed` says no; anything else that it throws is no answer, and fails the step.
    public var condition: (any RecoveryAction)?
    /// What takes it back, if the run is cancelled.
    public var compensation: (any RecoveryAction)?
    /// Whether it looks at what came back. A plan without such a step proves nothing, however well it went.
    public var verifies = false

    public init(
      _ id: String, _ title: String, of component: Component? = nil, after needs: [String] = [],
      priority: Objective.Priority = .high, budget: Span, limit: Span? = nil, attempts: Int = 1,
      pause: Span = .seconds(5), _ action: any RecoveryAction, onlyIf condition: (any RecoveryAction)? = nil,
      undo compensation: (any RecoveryAction)? = nil
    ) {
      self.id = id
      self.title = title
      self.component = component
      self.needs = needs
      self.priority = priority
      self.budget = budget
      self.limit = limit ?? .seconds(max(budget.seconds * 4, 60))
      self.attempts = attempts
      self.pause = pause
      self.action = action
      self.condition = condition
      self.compensation = compensation
    }
  }

  public let name: String
  /// For all of it together: the objective that it is to meet.
  public let budget: Span
  public let steps: [Step]
  /// Of the JSON that it was read from.
  var writtenDigest: String?

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` naming the step: for a name that is taken or not allowed, a need that is not
  ///   there, a circle, and limits out of range.
  public init(_ name: String, budget: Span, steps: [Step]) throws {
    self.name = name
    self.budget = budget
    self.steps = steps
    func refuse(_ what: String, _ step: String) -> DRError {
      DRError(.invalidConfiguration, "the recovery plan '\(name.prefix(80))' is not right: \(what)", object: step)
    }
    var known: Set<String> = []
    for step in steps {
      guard step.id.wholeMatch(of: /[a-z0-9][a-z0-9-]{0,62}/) != nil else {
        throw refuse(
          "'\(step.id.prefix(64))' cannot be the name of a step (lower-case letters, digits, hyphens)", step.id)
      }
      guard known.insert(step.id).inserted else { throw refuse("two steps are named '\(step.id)'", step.id) }
      guard (1...100).contains(step.attempts), step.limit.seconds > 0, step.budget.seconds > 0, step.pause.seconds >= 0
      else { throw refuse("'\(step.id)' has attempts, a budget or a limit out of range", step.id) }
    }
    for step in steps {
      if let missing = step.needs.first(where: { !known.contains($0) }) {
        throw refuse("'\(step.id)' needs '\(missing)', which is no step of it", step.id)
      }
    }
    if let circle = Self.circle(in: steps) {
      throw refuse("its steps need one another in a circle: \(circle.joined(separator: " needs "))", circle[0])
    }
    guard !steps.isEmpty, budget.seconds > 0 else { throw refuse("it has no steps, or no budget", name) }
  }

  /// The steps of a circle, the first one again at the end; nil if there is none.
  private static func circle(in steps: [Step]) -> [String]? {
    let needs = Dictionary(uniqueKeysWithValues: steps.map { ($0.id, $0.needs) })
    var done: Set<String> = []
    for start in steps.map(\.id) where !done.contains(start) {
      // Depth first, without recursion: a plan from a file may be long.
      var path = [(id: start, next: 0)]
      while let last = path.last {
        let open = needs[last.id] ?? []
        guard last.next < open.count else {
          done.insert(last.id)
          path.removeLast()
          continue
        }
        path[path.count - 1].next += 1
        let need = open[last.next]
        if let begin = path.firstIndex(where: { $0.id == need }) { return path[begin...].map(\.id) + [need] }
        if !done.contains(need) { path.append((need, 0)) }
      }
    }
    return nil
  }

  /// In an order in which each step comes after what it needs; of those that may come, the one of the highest priority first.
  public var ordered: [Step] {
    var (rest, done, ordered) = (steps, Set<String>(), [Step]())
    while let index = rest.indices.filter({ rest[$0].needs.allSatisfy(done.contains) })
      .min(by: { (rest[$0].priority, $0) < (rest[$1].priority, $1) })
    {
      let step = rest.remove(at: index)
      done.insert(step.id)
      ordered.append(step)
    }
    return ordered
  }

  /// The chain of steps that decides how long everything takes, given how long each one does.
  public func criticalPath(_ seconds: (Step) -> Double) -> (steps: [String], length: Span) {
    var longest: [String: (path: [String], seconds: Double)] = [:]
    for step in ordered {
      let before = step.needs.compactMap { longest[$0] }.max { $0.seconds < $1.seconds } ?? ([], 0)
      longest[step.id] = (before.path + [step.id], before.seconds + seconds(step))
    }
    let found = longest.values.max { ($0.seconds, $1.path.count) < ($1.seconds, $0.path.count) } ?? ([], 0)
    return (found.path, .seconds(found.seconds))
  }

  /// Of its budgets: how long everything would take, if each step took as long as it may.
  public var planned: Span { criticalPath { $0.budget.seconds }.length }

  /// What a person, or a journal, holds it by: another plan has another digest.
  var digest: String {
    var digest = StreamDigest()
    for step in steps {
      let fields = [
        step.id, step.needs.joined(separator: ","), step.action.summary, step.condition?.summary ?? "",
        step.compensation?.summary ?? "",
      ]
      digest.update(.init(string: fields.joined(separator: "\u{1F}") + "\u{1E}"))
    }
    return digest.hex()
  }
}

/// What a step does. An action may be run again after it was interrupted anywhere: it must come to the same end then.
public protocol RecoveryAction: Sendable {
  /// In a line, for dry runs and reports, without any secret.
  var summary: String { get }

  /// Does it.
  ///
  /// - Returns: What was seen, in a line, for the report; without any secret.
  /// - Throws: Why it was not done. A cancelled task stops, and leaves nothing that goes on.
  func perform() async throws -> String
}

/// An action in Swift.
public struct CustomAction: RecoveryAction {
  public let summary: String
  private let body: @Sendable () async throws -> String

  public init(_ summary: String, _ body: @escaping @Sendable () async throws -> String) {
    self.summary = summary
    self.body = body
  }

  public func perform() async throws -> String { try await body() }
}
