import DRCore

/// What a drill was asked to do. It is kept with the drill, for whoever resumes it.
struct DrillOptions: Codable, Hashable, Sendable {
  /// In the order in which they are brought back.
  var systems: [DrillSystems]
  /// Of PostgreSQL's data, in bytes.
  var size: Int64
  var connections: Int
  var seconds: Double
  var seed: UInt64
  /// In seconds, for every system; nil: each has the plan's.
  var rtoTarget: Double?
  var rpoTarget: Double?
  var partialInterval: Double
  var tier: String?
  var encrypt: Bool
  /// How many seconds a person has to decide; nil: by policy, at once.
  var ask: Double?

  func objective(of kind: Component.Kind) -> Objective {
    let plan = DrillTargets.of(kind)
    return Objective(
      rto: rtoTarget.map { .seconds($0) } ?? plan.rto, rpo: rpoTarget.map { .seconds($0) } ?? plan.rpo,
      priority: plan.priority)
  }
}

/// The plan's objectives for the systems that a drill destroys.
enum DrillTargets {
  static let platform = Objective(rto: .seconds(2 * 3600), rpo: .seconds(3600), priority: .critical)

  static func of(_ kind: Component.Kind) -> Objective {
    switch kind {
    case .redis: Objective(rto: .seconds(30 * 60), rpo: .seconds(15 * 60), priority: .high)
    case .rabbitmq: Objective(rto: .seconds(45 * 60), rpo: .seconds(3600), priority: .high)
    case .config: Objective(rto: .seconds(15 * 60), rpo: .seconds(60), priority: .critical)
    default: Objective(rto: .seconds(3600), rpo: .seconds(3600), priority: .critical)
    }
  }
}

/// The systems that a drill can destroy, in the order in which they are brought back.
enum DrillSystems: String, CaseIterable, Codable, Sendable {
  case files
  case postgres
  case redis
  case rabbitmq

  func make() throws -> any DrillSystem {
    switch self {
    case .files: try FilesDrill()
    case .postgres: try PostgresDrill()
    case .redis: try RedisDrill()
    case .rabbitmq: try RabbitMQDrill()
    }
  }
}
