import DRCore
public import Foundation
import NIOCore

extension RecoveryPlan {
  /// Reads a plan as people write it.
  ///
  ///     {
  ///       "name": "redis-failure", "budget": "20m",
  ///       "steps": [
  ///         {"id": "restore", "title": "Redis from its snapshot and log", "component": "redis/cache", "priority": "critical",
  ///          "budget": "5m", "attempts": 2, "run": ["dr-redis", "restore", "--online", "--config", "/etc/dr/redis.json"]},
  ///         {"id": "answers", "title": "Redis answers", "after": ["restore"], "budget": "1m", "tcp": "127.0.0.1:6379"}
  ///       ]
  ///     }
  ///
  /// What a step does is one of `run` (a program), `http` (a URL, with `status`, 200), `tcp` (`host:port`), `ask` (a question) and `notify` (one of
  /// the communication plan's messages, ``IncidentMessage``, with `to` for others than it names). `onlyIf` and `undo` are programs. `environment` is
  /// for all of its programs. `"verifies": true` says that it looks at what came back, as a step named `verify` or `verify-…` does unless it says
  /// false. A field that is not known is an error. There may be comments (JSON5).
  ///
  /// `"variables": {"port": "5432", "data": null}` says what the plan is written with: `${port}` in any text stands for the value, which is the
  /// one given here, or that of `variables`; null must be given. Values are no part of the plan's ``fingerprint``. A word of a program in which one is empty is left out, so that
  /// `--target-time=${moment}` is said only if there is a moment.
  ///
  /// - Parameters:
  ///   - variables: Values, by name.
  ///   - messages: What `notify` tells people with. A channel that fails, or none, fails no step: its evidence says so.
  ///   - ask: Puts the questions of `ask`.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`, naming the step and the field, or the variable.
  public init(
    json: Data, variables: [String: String] = [:], messages: PlanMessages = .none,
    ask: @escaping @Sendable (String) async throws -> Bool
  ) throws {
    let document = try Document(json)
    let values = try PlanVariables(declared: document.variables, given: variables)
    try self.init(
      document.name, budget: document.budget, steps: try document.steps.map { try $0.step(values, messages, ask) })
    writtenDigest = try Document.digest(of: json)
  }

  fileprivate struct Document: Decodable {
    var name: String
    var budget: Span
    var variables: [String: String?]
    var steps: [Written]

    private enum CodingKeys: String, CodingKey, CaseIterable { case name, budget, variables, steps }

    init(_ json: Data) throws {
      do {
        let decoder = JSONDecoder()
        decoder.allowsJSON5 = true
        self = try decoder.decode(Document.self, from: json)
      } catch let error as DecodingError {
        throw DRError(.invalidConfiguration, "the recovery plan cannot be read: \(error.reason)")
      }
    }

    /// Neither comments nor the order of fields count.
    static func digest(of json: Data) throws -> String {
      let (decoder, encoder) = (JSONDecoder(), JSONEncoder())
      decoder.allowsJSON5 = true
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      let value = try decoder.decode(JSONValue.self, from: json)
      return StreamDigest.hex(ByteBuffer(bytes: try encoder.encode(value)))
    }

    init(from decoder: any Decoder) throws {
      let fields = try decoder.known(CodingKeys.self)
      name = try fields.decode(String.self, forKey: .name)
      budget = try fields.decode(Span.self, forKey: .budget)
      variables = try fields.decodeIfPresent([String: String?].self, forKey: .variables) ?? [:]
      steps = try fields.decode([Written].self, forKey: .steps)
    }
  }

  fileprivate struct Written: Decodable {
    var id: String
    var title: String?
    var component: Component?
    var after: [String]?
    var priority: String?
    var budget: Span
    var limit: Span?
    var attempts: Int?
    var pause: Span?
    var run: [String]?
    var http: String?
    var status: Int?
    var tcp: String?
    var ask: String?
    var notify: String?
    var to: [String]?
    var onlyIf: [String]?
    var undo: [String]?
    var environment: [String: String]?
    var verifies: Bool?

    private enum CodingKeys: String, CodingKey, CaseIterable {
      case id, title, component, after, priority, budget, limit, attempts, pause, run, http, status, tcp, ask, notify,
        to, onlyIf, undo, environment, verifies
    }

    init(from decoder: any Decoder) throws {
      let fields = try decoder.known(CodingKeys.self)
      id = try fields.decode(String.self, forKey: .id)
      title = try fields.decodeIfPresent(String.self, forKey: .title)
      component = try fields.decodeIfPresent(Component.self, forKey: .component)
      after = try fields.decodeIfPresent([String].self, forKey: .after)
      priority = try fields.decodeIfPresent(String.self, forKey: .priority)
      budget = try fields.decode(Span.self, forKey: .budget)
      limit = try fields.decodeIfPresent(Span.self, forKey: .limit)
      attempts = try fields.decodeIfPresent(Int.self, forKey: .attempts)
      pause = try fields.decodeIfPresent(Span.self, forKey: .pause)
      run = try fields.decodeIfPresent([String].self, forKey: .run)
      http = try fields.decodeIfPresent(String.self, forKey: .http)
      status = try fields.decodeIfPresent(Int.self, forKey: .status)
      tcp = try fields.decodeIfPresent(String.self, forKey: .tcp)
      ask = try fields.decodeIfPresent(String.self, forKey: .ask)
      notify = try fields.decodeIfPresent(String.self, forKey: .notify)
      to = try fields.decodeIfPresent([String].self, forKey: .to)
      onlyIf = try fields.decodeIfPresent([String].self, forKey: .onlyIf)
      undo = try fields.decodeIfPresent([String].self, forKey: .undo)
      environment = try fields.decodeIfPresent([String: String].self, forKey: .environment)
      verifies = try fields.decodeIfPresent(Bool.self, forKey: .verifies)
    }

    func step(
      _ values: PlanVariables, _ messages: PlanMessages, _ ask: @escaping @Sendable (String) async throws -> Bool
    ) throws -> Step {
      let environment = try (environment ?? [:]).mapValues { try values.filled($0) }
      func command(_ words: [String]) throws -> CommandAction {
        let filled = try words.compactMap { try values.word($0) }
        guard let program = filled.first, !program.isEmpty else { throw refuse("has a command without a program") }
        return CommandAction(filled, environment: environment)
      }
      var step = Step(
        id, try values.filled(title ?? id), of: component, after: after ?? [], priority: try level(), budget: budget,
        limit: limit, attempts: attempts ?? 1, pause: pause ?? .seconds(5), try action(values, messages, command, ask),
        onlyIf: try onlyIf.map(command), undo: try undo.map(command))
      step.verifies = verifies ?? (id == "verify" || id.hasPrefix("verify-"))
      return step
    }

    private func level() throws -> Objective.Priority {
      switch priority {
      case nil, "high": .high
      case "critical": .critical
      case "medium": .medium
      case let other?: throw refuse("has the priority '\(other.prefix(40))', which is none: critical, high or medium")
      }
    }

    private func action(
      _ values: PlanVariables, _ messages: PlanMessages, _ command: ([String]) throws -> CommandAction,
      _ ask: @escaping @Sendable (String) async throws -> Bool
    ) throws -> any RecoveryAction {
      let actions: [(any RecoveryAction)?] = [
        try run.map(command), try http.map { HealthCheck(.http(url: try values.filled($0), status: status ?? 200)) },
        try tcp.map { HealthCheck(try probe(try values.filled($0))) },
        try self.ask.map { AskAction(try values.filled($0), by: ask) },
        try notify.map { try message($0, to: try to?.map { try values.filled($0) }, messages) },
      ]
      let given = actions.compactMap { $0 }
      guard given.count == 1, let action = given.first, status == nil || http != nil, to == nil || notify != nil else {
        throw refuse("does one thing: run, http, tcp, ask or notify (status goes with http, and to with notify)")
      }
      return action
    }

    private func message(_ name: String, to audience: [String]?, _ messages: PlanMessages) throws -> NotifyAction {
      guard let message = IncidentMessage(rawValue: name) else {
        let known = IncidentMessage.allCases.map(\.rawValue).joined(separator: ", ")
        throw refuse("has the message '\(name.prefix(40))', which is none: \(known)")
      }
      // Half of the time that the step has: what it tells nobody must not be what exceeds a budget.
      let time = min(budget.seconds, limit?.seconds ?? budget.seconds) / 2
      return NotifyAction(message, to: audience, by: messages, within: .seconds(time))
    }

    private func probe(_ place: String) throws -> HealthCheck.Probe {
      guard let probe = HealthCheck.Probe.tcp(place) else {
        throw refuse("has the address '\(place.prefix(80))': write host:port")
      }
      return probe
    }

    private func refuse(_ what: String) -> DRError {
      DRError(.invalidConfiguration, "the step '\(id.prefix(64))' of the recovery plan \(what)", object: id)
    }
  }
}

extension RunReport.Plan {
  /// What evidence holds a plan by that is written as JSON, whatever the values of its variables.
  ///
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for what is no plan.
  public init(json: Data) throws {
    self.init(try RecoveryPlan.Document(json).name, digest: try RecoveryPlan.Document.digest(of: json))
  }
}
