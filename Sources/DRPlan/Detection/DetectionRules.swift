public import DRCore
public import Foundation

/// What is looked at to notice a disaster, and what is taken for one.
///
///     {
///       "probes": [
///         {"id": "redis-answers", "tcp": "127.0.0.1:6379", "every": "10s", "failures": 3},
///         {"id": "miss-rate", "share": ["sh", "-c", "…"], "above": 0.5, "every": "30s", "failures": 2}
///       ],
///       "incidents": [
///         {"name": "redis-failure", "severity": "P2", "component": "redis/cache", "when": ["redis-answers", "miss-rate"],
///          "plan": "2-redis-failure.json5", "set": {"config": "/etc/dr/redis.json"}}
///       ]
///     }
///
/// There may be comments (JSON5). A field that is not known is an error.
public struct DetectionRules: Sendable, Decodable {
  /// One thing that is looked at, again and again.
  public struct Probe: Sendable {
    public enum Look: Sendable {
      /// It is well if the action is done.
      case succeeds(any RecoveryAction)
      /// A program whose last word is a number.
      case number(CommandAction)
      /// A program whose last two words are counters, of a part and of the whole: what is measured is how much the part grew
      /// of what the whole grew by, since the last look.
      case share(CommandAction)
      /// A program whose last word is a counter: what is measured is by how much it grew since the last look.
      case growth(CommandAction)
    }

    public var id: String
    public var look: Look
    /// A number above it is a failure.
    public var above: Double?
    /// A number below it is a failure.
    public var below: Double?
    public var every: Span
    /// How long one look may take; longer is a failure.
    public var patience: Span
    /// So many failures in a row are a symptom.
    public var failures: Int

    /// One that is well if an action is done.
    public init(
      _ id: String, every: Span = .seconds(30), patience: Span = .seconds(10), failures: Int = 3,
      _ action: any RecoveryAction
    ) {
      self.id = id
      look = .succeeds(action)
      self.every = every
      self.patience = patience
      self.failures = failures
    }

    /// Why it cannot be; nil: it can.
    fileprivate var obstacle: String? {
      id.wholeMatch(of: /[a-z0-9][a-z0-9-]{0,62}/) != nil && (1...1000).contains(failures) && every.seconds > 0
        && patience.seconds > 0
        ? nil : "the probe '\(id.prefix(64))' has a name, an interval or a count out of range"
    }
  }

  /// What is taken for a disaster, and the plan against it.
  public struct Incident: Hashable, Sendable {
    public enum Go: String, Hashable, Sendable, Codable {
      /// A person decides.
      case ask
      /// The plan is carried out at once.
      case auto
    }

    public var name: String
    /// `P1` to `P3`.
    public var severity: String
    public var component: Component?
    /// Probes, by their names.
    public var when: [String]
    /// How many of them must have become symptoms.
    public var atLeast: Int
    /// The recovery plan's file.
    public var plan: String
    /// The plan's variables.
    public var set: [String: String]
    public var go: Go

    public init(
      _ name: String, severity: String = "P1", of component: Component? = nil, when probes: [String], atLeast: Int = 1,
      plan: String, set: [String: String] = [:], go: Go = .ask
    ) {
      self.name = name
      self.severity = severity
      self.component = component
      when = probes
      self.atLeast = atLeast
      self.plan = plan
      self.set = set
      self.go = go
    }

    /// Why it cannot be; nil: it can.
    fileprivate var obstacle: String? {
      ["P1", "P2", "P3"].contains(severity) && name.wholeMatch(of: /[a-z0-9][a-z0-9-]{0,62}/) != nil
        ? nil : "'\(name.prefix(64))' is no name of an incident, or its severity is none of P1, P2, P3"
    }
  }

  public var probes: [Probe]
  public var incidents: [Incident]

  private enum CodingKeys: String, CodingKey, CaseIterable { case probes, incidents }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    probes = try fields.decode([Probe].self, forKey: .probes)
    incidents = try fields.decode([Incident].self, forKey: .incidents)
    if let obstacle = Self.obstacle(probes, incidents) {
      throw DecodingError.dataCorruptedError(forKey: .incidents, in: fields, debugDescription: obstacle)
    }
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for names that are taken, not allowed or not there, and counts out of range.
  public init(probes: [Probe], incidents: [Incident]) throws {
    let alone = probes.compactMap(\.obstacle) + incidents.compactMap(\.obstacle)
    if let obstacle = alone.first ?? Self.obstacle(probes, incidents) {
      throw DRError(.invalidConfiguration, "the rules of detection are not right: \(obstacle)")
    }
    self.probes = probes
    self.incidents = incidents
  }

  /// Why they do not go together; nil: they do.
  private static func obstacle(_ probes: [Probe], _ incidents: [Incident]) -> String? {
    var names: Set<String> = []
    for probe in probes where !names.insert(probe.id).inserted { return "two probes are named '\(probe.id)'" }
    var known: Set<String> = []
    for incident in incidents {
      if let unknown = incident.when.first(where: { !names.contains($0) }) {
        return "the incident '\(incident.name)' is by a probe '\(unknown)', which is not there"
      }
      guard known.insert(incident.name).inserted, (1...max(1, incident.when.count)).contains(incident.atLeast),
        !incident.when.isEmpty
      else { return "the incident '\(incident.name)' is there twice, or asks for more probes than it names" }
    }
    let used = Set(incidents.flatMap(\.when))
    return probes.first { !used.contains($0.id) }.map { "no incident is by the probe '\($0.id)'" }
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public init(json: Data) throws {
    do {
      let decoder = JSONDecoder()
      decoder.allowsJSON5 = true
      self = try decoder.decode(DetectionRules.self, from: json)
    } catch let error as DecodingError {
      throw DRError(.invalidConfiguration, "the rules of detection cannot be read: \(error.reason)")
    }
  }
}

extension DetectionRules.Incident: Decodable {
  private enum CodingKeys: String, CodingKey, CaseIterable {
    case name, severity, component, when, atLeast, plan, set, go
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    name = try fields.decode(String.self, forKey: .name)
    severity = try fields.decodeIfPresent(String.self, forKey: .severity) ?? "P1"
    component = try fields.decodeIfPresent(String.self, forKey: .component).map { try Component(parsing: $0) }
    when = try fields.decode([String].self, forKey: .when)
    atLeast = try fields.decodeIfPresent(Int.self, forKey: .atLeast) ?? 1
    plan = try fields.decode(String.self, forKey: .plan)
    set = try fields.decodeIfPresent([String: String].self, forKey: .set) ?? [:]
    go = try fields.decodeIfPresent(Go.self, forKey: .go) ?? .ask
    if let obstacle {
      throw DecodingError.dataCorruptedError(forKey: .name, in: fields, debugDescription: obstacle)
    }
  }
}

extension DetectionRules.Probe: Decodable {
  private enum CodingKeys: String, CodingKey, CaseIterable {
    case id, run, http, status, tcp, number, share, growth, above, below, every, patience, failures, environment
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    let name = try fields.decode(String.self, forKey: .id)
    id = name
    above = try fields.decodeIfPresent(Double.self, forKey: .above)
    below = try fields.decodeIfPresent(Double.self, forKey: .below)
    every = try fields.decodeIfPresent(Span.self, forKey: .every) ?? .seconds(30)
    patience = try fields.decodeIfPresent(Span.self, forKey: .patience) ?? .seconds(10)
    failures = try fields.decodeIfPresent(Int.self, forKey: .failures) ?? 3
    let environment = try fields.decodeIfPresent([String: String].self, forKey: .environment) ?? [:]
    func command(_ key: CodingKeys) throws -> CommandAction? {
      try fields.decodeIfPresent([String].self, forKey: key).map { CommandAction($0, environment: environment) }
    }
    func wrong(_ what: String) -> DecodingError {
      .dataCorruptedError(forKey: .id, in: fields, debugDescription: "the probe '\(name.prefix(64))' \(what)")
    }
    let status = try fields.decodeIfPresent(Int.self, forKey: .status)
    var tcp: HealthCheck?
    if let place = try fields.decodeIfPresent(String.self, forKey: .tcp) {
      guard let probe = HealthCheck.Probe.tcp(place) else {
        throw wrong("has the address '\(place.prefix(80))': write host:port")
      }
      tcp = HealthCheck(probe)
    }
    let http = try fields.decodeIfPresent(String.self, forKey: .http).map {
      HealthCheck(.http(url: $0, status: status ?? 200))
    }
    let looks: [Look?] = [
      try command(.run).map { .succeeds($0) }, http.map { .succeeds($0.once) }, tcp.map { .succeeds($0.once) },
      try command(.number).map { .number($0) }, try command(.share).map { .share($0) },
      try command(.growth).map { .growth($0) },
    ]
    let given = looks.compactMap { $0 }
    guard given.count == 1 else { throw wrong("looks at one thing: run, http, tcp, number, share or growth") }
    look = given[0]
    if case .succeeds = look {
      guard above == nil, below == nil else { throw wrong("has a limit, and nothing that is a number") }
    } else {
      guard above != nil || below != nil else { throw wrong("has no limit: above or below") }
    }
    if let obstacle {
      throw DecodingError.dataCorruptedError(forKey: .id, in: fields, debugDescription: obstacle)
    }
  }
}
