public import DRCore
public import DRPlan
public import Foundation

extension Platform {
  /// The programs that bring a component back in one place.
  struct Restoration {
    var command: [String]
    var further: [[String]]
    var point: [String]?
  }

  /// The steps that restore a component, with what each needs before it: the restore, and the point that it reached.
  ///
  /// - Parameters:
  ///   - restoration: The component's own, or that of a region.
  ///   - backup: Its name; nil: the newest that reaches the target.
  func steps(
    restoring protected: ProtectionPlan.Protected, by restoration: Restoration, backup: String?, moment: Date?,
    after needs: [String] = []
  ) -> [RecoveryPlan.Step] {
    let component = protected.component
    let environment = systems[component]?.environment ?? [:]
    var words = restoration.command
    if let backup { words += component.kind == .postgres ? ["--backup", backup] : [backup] }
    if let moment { words += ["--target-time", Timestamp.postgres(moment)] }
    let name = Self.step(component)
    let priority = protected.objective.priority
    let rto = Span(protected.objective.rto)
    var steps = [
      RecoveryPlan.Step(
        name, "\(component) restored", of: component, after: needs, priority: priority, budget: rto,
        CommandAction(words, environment: environment))
    ]
    for (index, further) in restoration.further.enumerated() {
      steps.append(
        RecoveryPlan.Step(
          "\(name)-\(index + 1)", "\(component), after its restore", of: component, after: [steps[index].id],
          priority: priority, budget: rto, CommandAction(further, environment: environment)))
    }
    if let point = restoration.point {
      steps.append(
        RecoveryPlan.Step(
          "\(name)-point", "the moment that \(component) has reached", of: component,
          after: [steps[steps.count - 1].id],
          priority: priority, budget: .minutes(1), attempts: 5, pause: .seconds(1),
          CommandAction(point, environment: environment)))
    }
    return steps
  }

  static func step(_ component: Component) -> String {
    "\(component)".replacing("/", with: "-").replacing("_", with: "-")
  }

  /// The plan that restores components side by side, those of the highest priority first.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for a component that no program restores.
  public func restorePlan(
    _ components: [Component], backup: String?, moment: Date?, region: String?
  ) throws -> RecoveryPlan {
    let chosen = plan.components.filter { components.contains($0.component) }
    let steps = try chosen.flatMap { protected in
      self.steps(
        restoring: protected, by: try restore(of: protected.component, in: region), backup: backup, moment: moment)
    }
    let rto = chosen.count == plan.components.count ? plan.platform.rto : chosen.map(\.objective.rto).max()
    return try RecoveryPlan("restore", budget: Span(rto ?? .seconds(3600)), steps: steps)
  }

  func restore(of component: Component, in region: String?) throws -> Restoration {
    let system = systems[component]
    guard let region else {
      guard let restore = system?.restore else {
        throw DRError(
          .invalidConfiguration, "no program restores \(component)", advice: "give one in the platform's file: restore",
          component: component, object: file)
      }
      return Restoration(command: restore, further: system?.afterRestore ?? [], point: system?.point)
    }
    guard let there = system?.regions[region] else {
      let known = system?.regions.keys.sorted().joined(separator: ", ") ?? ""
      throw DRError(
        .invalidConfiguration, "no program restores \(component) in the region '\(region.prefix(60))'",
        advice: "give one in the platform's file under regions" + (known.isEmpty ? "" : "; it has \(known)"),
        component: component, object: file)
    }
    return Restoration(command: there.restore, further: there.afterRestore, point: there.point)
  }

  /// How far what was restored is from the moment that was asked for, by what each component's programs said.
  public func distances(of report: RecoveryReport, from moment: Date) -> [(component: Component, text: String)] {
    plan.components.compactMap { protected in
      let name = Self.step(protected.component)
      guard report.plan.steps.contains(where: { $0.id == name }) else { return nil }
      let said = report.entries["\(name)-point"]?.evidence ?? report.entries[name]?.evidence ?? ""
      guard report.entries[name]?.outcome == .done else { return (protected.component, "not restored") }
      if let asked = report.entries["\(name)-point"], asked.outcome != .done {
        return (protected.component, "not known: \(name)-point was not done")
      }
      guard let text = said.firstMatch(of: /\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)/)?.0,
        let reached = Timestamp.parse(String(text))
      else { return (protected.component, "not known: its programs say no moment (\"point\" in the platform's file)") }
      let distance = Span.seconds(abs(reached.timeIntervalSince(moment)))
      let side = reached <= moment ? "before" : "AFTER"
      return (protected.component, "\(Timestamp.format(reached)), \(distance) \(side) the moment")
    }
  }
}
