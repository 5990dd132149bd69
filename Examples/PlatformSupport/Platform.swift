public import DRCore
public import DRPlan
import DRStorage
public import ExampleSupport
import Foundation

/// A real platform, as one file describes it: the plan, and the programs that carry it out.
///
///     {
///       "plan": "plan.json",            // a protection plan, or the path of one, from this file's folder
///       "repository": "/backups",       // where the scheduler's lease and memory are: a folder or a bucket
///       "components": {
///         "redis/cache": {
///           "config": "/etc/dr/redis.json",
///           "captures": {"snapshot": ["dr-redis", "backup", "--config", "/etc/dr/redis.json"]},
///           "restore": ["dr-redis", "restore", "--online", "--config", "/etc/dr/redis.json"]
///         }
///       }
///     }
///
/// It may have comments (JSON5). No secret belongs into it: the programs' own configuration files and environments name where they are.
/// What a plan has and no program does is said; what a program is given for and the plan has not is an error.
public struct Platform: Sendable {
  /// What a capture or a verification runs, and how.
  public struct Work: Sendable {
    public var run: [String]
    public var missed: ScheduledJob.Missed?
    public var jitter: Span?
    public var attempts: Int?
    public var pause: Span?
    public var limit: Span?
  }

  /// How a component is brought up in another region, and comes back from there.
  public struct RegionalSystem: Sendable, Decodable {
    public var restore: [String]
    /// What follows a restore there, and says what it has reached: those of home are of home's servers.
    public var afterRestore: [[String]]
    public var point: [String]?
    /// Captures it there.
    public var capture: [String]?
    /// Copies that to the primary site's repository.
    public var copyHome: [String]?

    private enum CodingKeys: String, CodingKey, CaseIterable { case restore, afterRestore, point, capture, copyHome }

    public init(from decoder: any Decoder) throws {
      let fields = try decoder.known(CodingKeys.self)
      restore = try fields.decode([String].self, forKey: .restore)
      afterRestore = try fields.decodeIfPresent([[String]].self, forKey: .afterRestore) ?? []
      point = try fields.decodeIfPresent([String].self, forKey: .point)
      capture = try fields.decodeIfPresent([String].self, forKey: .capture)
      copyHome = try fields.decodeIfPresent([String].self, forKey: .copyHome)
    }
  }

  /// A region: what provides it, starts the application there, looks at it, and leads names to it and home again.
  public struct Region: Sendable, Decodable {
    public var provision, application, verify, switching, compareHome, switchHome: [String]?

    private enum CodingKeys: String, CodingKey, CaseIterable {
      case provision, application, verify, compareHome, switchHome
      case switching = "switch"
    }

    public init(from decoder: any Decoder) throws {
      let fields = try decoder.known(CodingKeys.self)
      provision = try fields.decodeIfPresent([String].self, forKey: .provision)
      application = try fields.decodeIfPresent([String].self, forKey: .application)
      verify = try fields.decodeIfPresent([String].self, forKey: .verify)
      switching = try fields.decodeIfPresent([String].self, forKey: .switching)
      compareHome = try fields.decodeIfPresent([String].self, forKey: .compareHome)
      switchHome = try fields.decodeIfPresent([String].self, forKey: .switchHome)
    }
  }

  /// How one component is captured, verified and restored.
  public struct System: Sendable {
    /// Its programs' configuration file, for who looks at its repository.
    public var config: String?
    /// By the capture's name in the plan.
    public var captures: [String: Work]
    /// By their level.
    public var verifications: [ProtectionPlan.Level: Work]
    public var restore: [String]?
    /// What follows a restore, in this order: a server that is started, say.
    public var afterRestore: [[String]]
    /// A program whose last line says the moment that a restored system has reached.
    public var point: [String]?
    /// By the region's name.
    public var regions: [String: RegionalSystem]
    public var environment: [String: String]

    /// Everything that is run for it.
    fileprivate var commands: [[String]] {
      captures.values.map(\.run) + verifications.values.map(\.run) + [restore, point].compactMap { $0 } + afterRestore
        + regions.values.flatMap {
          [$0.restore, $0.point, $0.capture, $0.copyHome].compactMap { $0 } + $0.afterRestore
        }
    }
  }

  /// The name under which the hosts of a platform share its scheduler.
  public static let scheduler = "platform"

  public let file: String
  public let plan: ProtectionPlan
  public let repository: String
  /// For a repository in a bucket.
  public let s3: S3Settings?
  public let systems: [Component: System]
  public let regions: [String: Region]
  /// Recovery plans whose standing is looked at: their paths.
  public let recoveryPlans: [String]

  /// - Throws: ``DRError`` with `invalidConfiguration` naming the file and the field.
  public init(file: String) throws {
    func refuse(_ what: String, _ cause: (any Error)? = nil) -> DRError {
      DRError(
        .invalidConfiguration, "the platform's file \(what)",
        advice: "compare it with Examples/platform.json5", object: file, cause: cause)
    }
    let document: Document
    let folder = URL(fileURLWithPath: file).deletingLastPathComponent()
    do {
      let decoder = JSONDecoder()
      decoder.allowsJSON5 = true
      document = try decoder.decode(Document.self, from: Data(contentsOf: URL(fileURLWithPath: file)))
    } catch let error as DecodingError {
      throw refuse("is not right: \(error.reason)")
    } catch {
      throw refuse("cannot be read", error)
    }
    switch document.plan {
    case .plan(let plan): self.plan = plan
    case .path(let path):
      do {
        let url = URL(fileURLWithPath: path, relativeTo: folder)
        plan = try JSONDecoder().decode(ProtectionPlan.self, from: Data(contentsOf: url))
      } catch let error as DecodingError {
        throw refuse("names a plan that is not right: \(path): \(error.reason)")
      } catch {
        throw refuse("names a plan that cannot be read: \(path)", error)
      }
    }
    var systems: [Component: System] = [:]
    for (name, written) in document.components {
      let component = try Component(parsing: name)
      guard let protected = plan.components.first(where: { $0.component == component }) else {
        throw refuse("has a component '\(name.prefix(80))' that the plan has not")
      }
      systems[component] = try written.system(for: protected, refuse)
    }
    self.file = file
    self.systems = systems
    regions = document.regions
    recoveryPlans = document.recoveryPlans.map { URL(fileURLWithPath: $0, relativeTo: folder).path }
    for (component, system) in systems {
      if let unknown = system.regions.keys.sorted().first(where: { document.regions[$0] == nil }) {
        throw refuse("has a region '\(unknown.prefix(60))' of \(component) that is not among its regions")
      }
    }
    let commands =
      systems.values.flatMap(\.commands)
      + regions.values.flatMap {
        [$0.provision, $0.application, $0.verify, $0.switching, $0.compareHome, $0.switchHome].compactMap { $0 }
      }
    let secret =
      commands.lazy.compactMap { WrittenSecrets.found(in: $0) }.first
      ?? systems.values.lazy.compactMap { WrittenSecrets.found(in: $0.environment) }.first
    if let secret {
      throw DRError(
        .invalidConfiguration, "the platform's file holds a secret: \(secret)",
        advice:
          "take it out, and give it by a file that only its user can read, or by the environment of whoever runs the plan",
        object: file)
    }
    (repository, s3) = (document.repository, document.s3)
    guard repository.hasPrefix("/") || TierPlace.isBucket(repository) else {
      throw refuse("must name the repository by an absolute path, or a bucket as s3://bucket/prefix")
    }
  }

  /// Opens the tier of the scheduler.
  ///
  /// - Parameter reading: Nothing is going to be written.
  public func tier(reading: Bool = false) async throws -> any StorageTier {
    try await TierPlace.open(repository, creating: false, s3: s3, probing: reading ? .reading : .everything)
  }

  private struct Document: Decodable {
    enum Plan: Decodable {
      case plan(ProtectionPlan)
      case path(String)

      init(from decoder: any Decoder) throws {
        if let path = try? decoder.singleValueContainer().decode(String.self) {
          self = .path(path)
        } else {
          self = .plan(try ProtectionPlan(from: decoder))
        }
      }
    }

    var plan: Plan
    var repository: String
    var s3: S3Settings?
    var components: [String: Written]
    var regions: [String: Region]
    var recoveryPlans: [String]

    private enum CodingKeys: String, CodingKey, CaseIterable {
      case plan, repository, s3, components, regions, recoveryPlans
    }

    init(from decoder: any Decoder) throws {
      let fields = try decoder.known(CodingKeys.self)
      plan = try fields.decode(Plan.self, forKey: .plan)
      repository = try fields.decode(String.self, forKey: .repository)
      s3 = try fields.decodeIfPresent(S3Settings.self, forKey: .s3)
      components = try fields.decode([String: Written].self, forKey: .components)
      regions = try fields.decodeIfPresent([String: Region].self, forKey: .regions) ?? [:]
      recoveryPlans = try fields.decodeIfPresent([String].self, forKey: .recoveryPlans) ?? []
    }
  }

  private struct Written: Decodable {
    var config: String?
    var captures: [String: Work]
    var verifications: [String: Work]
    var restore: [String]?
    var afterRestore: [[String]]
    var point: [String]?
    var regions: [String: RegionalSystem]
    var environment: [String: String]

    private enum CodingKeys: String, CodingKey, CaseIterable {
      case config, captures, verifications, restore, afterRestore, point, regions, environment
    }

    init(from decoder: any Decoder) throws {
      let fields = try decoder.known(CodingKeys.self)
      captures = try fields.decodeIfPresent([String: Work].self, forKey: .captures) ?? [:]
      verifications = try fields.decodeIfPresent([String: Work].self, forKey: .verifications) ?? [:]
      config = try fields.decodeIfPresent(String.self, forKey: .config)
      restore = try fields.decodeIfPresent([String].self, forKey: .restore)
      afterRestore = try fields.decodeIfPresent([[String]].self, forKey: .afterRestore) ?? []
      point = try fields.decodeIfPresent([String].self, forKey: .point)
      regions = try fields.decodeIfPresent([String: RegionalSystem].self, forKey: .regions) ?? [:]
      environment = try fields.decodeIfPresent([String: String].self, forKey: .environment) ?? [:]
    }

    func system(for protected: ProtectionPlan.Protected, _ refuse: (String, (any Error)?) -> DRError) throws -> System {
      let known = Set(protected.captures.map(\.name))
      if let other = captures.keys.sorted().first(where: { !known.contains($0) }) {
        throw refuse(
          "has a capture '\(other.prefix(60))' of \(protected.component) that the plan has not; it has "
            + known.sorted().joined(separator: ", "), nil)
      }
      var levels: [ProtectionPlan.Level: Work] = [:]
      for (name, work) in verifications {
        guard let level = ProtectionPlan.Level(rawValue: name),
          protected.verifications.contains(where: { $0.level == level })
        else {
          throw refuse("has a verification '\(name.prefix(60))' of \(protected.component) that the plan has not", nil)
        }
        levels[level] = work
      }
      return System(
        config: config, captures: captures, verifications: levels, restore: restore, afterRestore: afterRestore,
        point: point, regions: regions, environment: environment)
    }
  }
}

/// Only the words of the program, or an object with more.
extension Platform.Work: Decodable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case run, missed, jitter, attempts, pause, limit }

  public init(from decoder: any Decoder) throws {
    if let words = try? decoder.singleValueContainer().decode([String].self) {
      self.init(run: words)
      return
    }
    let fields = try decoder.known(CodingKeys.self)
    self.init(
      run: try fields.decode([String].self, forKey: .run),
      missed: try fields.decodeIfPresent(ScheduledJob.Missed.self, forKey: .missed),
      jitter: try fields.decodeIfPresent(Span.self, forKey: .jitter),
      attempts: try fields.decodeIfPresent(Int.self, forKey: .attempts),
      pause: try fields.decodeIfPresent(Span.self, forKey: .pause),
      limit: try fields.decodeIfPresent(Span.self, forKey: .limit))
    guard !run.isEmpty else {
      throw DecodingError.dataCorruptedError(forKey: .run, in: fields, debugDescription: "a program has no words")
    }
  }
}
