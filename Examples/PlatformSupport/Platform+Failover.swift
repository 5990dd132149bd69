import DRCore
public import DRPlan
public import Foundation

extension Platform {
  /// What brings the platform up in a region: its infrastructure, every component side by side, the application, what is
  /// looked at, and names.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for a region that the file has not, or has not for every component.
  public func failoverPlan(to name: String, moment: Date?) throws -> RecoveryPlan {
    guard let region = regions[name] else {
      throw DRError(
        .invalidConfiguration, "the platform's file has no region '\(name.prefix(60))'",
        advice: regions.isEmpty ? "describe one: regions" : "it has \(regions.keys.sorted().joined(separator: ", "))",
        object: file)
    }
    var steps: [RecoveryPlan.Step] = []
    func add(_ id: String, _ title: String, _ words: [String]?, after needs: [String], _ budget: Span) {
      guard let words else { return }
      steps.append(
        RecoveryPlan.Step(
          id, title, after: needs, priority: .critical, budget: budget, attempts: 2, CommandAction(words)))
    }
    add("provision", "the region's infrastructure", region.provision, after: [], .minutes(30))
    let base = steps.map(\.id)
    var last: [String] = []
    for protected in plan.components {
      let made = self.steps(
        restoring: protected, by: try restore(of: protected.component, in: name), backup: nil, moment: moment,
        after: base)
      steps += made
      last.append(made[made.count - 1].id)
    }
    add("application", "the application starts", region.application, after: last, .minutes(10))
    let started = region.application == nil ? last : ["application"]
    add("verify", "what must be there is there", region.verify, after: started, .minutes(15))
    add("switch", "names lead there", region.switching, after: region.verify == nil ? started : ["verify"], .minutes(5))
    return try RecoveryPlan("failover-\(name)", budget: Span(plan.platform.rto), steps: steps)
  }

  /// The way back, of what was restored there: each component is captured there, copied home, restored and started at home; then names lead
  /// home. What has no program for a step is asked of a person, and so is what becomes of a component that did not come up there.
  public func failbackPlan(from name: String, after report: RecoveryReport) throws -> Data {
    struct Step: Encodable {
      var id: String
      var title: String
      var component: String?
      var after: [String]?
      var budget: String
      var run: [String]?
      var ask: String?
      var environment: [String: String]?
    }
    struct Plan: Encodable {
      var name: String
      var budget: String
      var steps: [Step]
    }
    var steps = [
      Step(
        id: "home", title: "the primary site is there again", budget: "1d",
        ask: "Is the primary site whole, empty and reachable again?"),
      Step(
        id: "quiet", title: "nobody writes any more", after: ["home"], budget: "10m",
        ask: "Has the application in \(name) been stopped from writing?"),
    ]
    var last: [String] = []
    for protected in plan.components {
      let component = protected.component
      let step = Self.step(component)
      guard report.entries[step]?.outcome.isDone == true else {
        steps.append(
          Step(
            id: "\(step)-missing", title: "\(component): it was not restored in \(name)", component: "\(component)",
            after: ["quiet"], budget: "1d",
            ask: "\(component) was not restored in \(name): is it at home by another way, with what it should hold?"))
        last.append("\(step)-missing")
        continue
      }
      let system = systems[component]
      let region = system?.regions[name]
      var need = "quiet"
      func add(_ id: String, _ title: String, _ words: [String]?, _ budget: Span) {
        steps.append(
          Step(
            id: "\(step)-\(id)", title: "\(component): \(title)", component: "\(component)", after: [need],
            budget: "\(budget)", run: words, ask: words == nil ? "\(component): is this done: \(title)?" : nil,
            environment: words == nil ? nil : system?.environment))
        need = "\(step)-\(id)"
      }
      let rto = Span(protected.objective.rto)
      add("capture", "captured in \(name)", region?.capture, rto)
      add("copy", "copied to the primary site's repository", region?.copyHome, rto)
      add("restore", "restored at the primary site", system?.restore, rto)
      for (index, further) in (system?.afterRestore ?? []).enumerated() {
        add("home-\(index + 1)", "after its restore at the primary site", further, rto)
      }
      last.append(need)
    }
    steps.append(
      Step(
        id: "compare", title: "home is what the other region was", after: last, budget: "1h",
        run: regions[name]?.compareHome,
        ask: regions[name]?.compareHome == nil ? "Were counts and critical data compared?" : nil))
    steps.append(
      Step(
        id: "switch", title: "names lead home", after: ["compare"], budget: "10m", run: regions[name]?.switchHome,
        ask: regions[name]?.switchHome == nil ? "Do names lead to the primary site again?" : nil))
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(Plan(name: "failback-\(name)", budget: "3d", steps: steps)) + Data("\n".utf8)
  }
}
