import DRCore
import DRStorage

/// What the stored objects are.
extension VerificationRule {
  static let manifests: [VerificationRule] = [
    VerificationRule("manifest-readable") { facts, _ in
      facts.reached.flatMap { tier -> [Finding] in
        let broken = facts.unreadable[tier] ?? []
        let readable = facts.manifests.count { $0.tier == tier }
        guard broken.isEmpty else {
          return broken.map { manifest in
            Finding(
              "manifest-readable", .failure, subject: "\(facts.tiers[tier]): \(manifest.key)",
              evidence: manifest.error.message, advice: manifest.error.advice ?? "bring it back from another tier")
          }
        }
        return aggregate("manifest-readable", facts.tiers[tier], readable, "manifests, none damaged")
      }
    },
    VerificationRule("manifest-schema") { facts, _ in
      looks(
        "manifest-schema", facts, facts.manifests.map { ($0.tier, "\(facts.tiers[$0.tier]): \($0.key)", $0.schema) }
      ) {
        "\($0) manifests follow the schema"
      }
    },
    VerificationRule("manifest-same") { facts, _ in
      facts.reached.filter { $0 > 0 }.flatMap { tier -> [Finding] in
        let own = facts.manifests.filter { $0.tier == tier && $0.isSame != nil }
        let other = own.filter { $0.isSame == false }
        guard other.isEmpty else {
          return other.map {
            Finding(
              "manifest-same", .failure, subject: "\(facts.tiers[tier]): \($0.key)",
              evidence: "it is not, byte for byte, the repository's",
              advice: "find out who wrote it; then remove the copy of this backup and run dr-repository replicate")
          }
        }
        return aggregate("manifest-same", facts.tiers[tier], own.count, "manifests are the repository's, byte for byte")
      }
    },
  ]

  static let objects: [VerificationRule] = [
    VerificationRule("artifact-present") { facts, _ in
      facts.objects.filter { !$0.isSegment }.map { object in
        let subject = object.subject(facts.tiers)
        switch object.presence {
        case .there(let size):
          return Finding("artifact-present", .passed, subject: subject, evidence: "\(size) bytes stored")
        case .absent:
          return Finding(
            "artifact-present", .failure, subject: subject, evidence: "it is not there, and \(object.owner) needs it",
            advice: "copy it from another tier, or take a new backup")
        case .unknown(let error):
          return Finding(
            "artifact-present", .couldNotVerify, subject: subject, evidence: error.message, advice: error.advice)
        }
      }
    },
    VerificationRule("artifact-size") { facts, _ in
      facts.objects.compactMap { object in
        guard case .there(let size) = object.presence, let expected = object.expectedSize else { return nil }
        return Finding(
          "artifact-size", size == expected ? .passed : .failure, subject: object.subject(facts.tiers),
          evidence: "\(size) bytes stored, the manifest states \(expected)",
          advice: size == expected ? nil : "copy it from another tier, or take a new backup")
      }
    },
    VerificationRule("artifact-readable") { facts, _ in
      looks("artifact-readable", facts, artifacts(facts, \.reading)) {
        "the first bytes of \($0) artifacts can be read"
      }
    },
    VerificationRule("segment-readable") { facts, _ in
      looks("segment-readable", facts, segments(facts, \.reading)) { "the first bytes of \($0) segments can be read" }
    },
    VerificationRule("artifact-digest") { facts, _ in
      each("artifact-digest", artifacts(facts, \.digest), "the SHA-256 is the manifest's")
    },
    VerificationRule("artifact-codec") { facts, _ in
      each(
        "artifact-codec", artifacts(facts, \.codec), "every frame was decoded, and the raw SHA-256 is the manifest's")
    },
    VerificationRule("segment-digest") { facts, _ in
      looks("segment-digest", facts, segments(facts, \.digest)) {
        "\($0) segments were decoded, and their SHA-256 is that in their names, if they are full"
      }
    },
  ]

  private typealias Looked = (tier: Int, subject: String, look: VerificationFacts.Look)

  private static func artifacts(
    _ facts: VerificationFacts, _ look: (VerificationFacts.Object) -> VerificationFacts.Look
  ) -> [Looked] {
    there(facts).filter { !$0.isSegment }.map { ($0.tier, $0.subject(facts.tiers), look($0)) }
  }

  private static func segments(
    _ facts: VerificationFacts, _ look: (VerificationFacts.Object) -> VerificationFacts.Look
  ) -> [Looked] {
    there(facts).filter(\.isSegment).map { ($0.tier, $0.subject(facts.tiers), look($0)) }
  }

  /// What is not there is said by presence.
  private static func there(_ facts: VerificationFacts) -> [VerificationFacts.Object] {
    facts.objects.filter { if case .there = $0.presence { true } else { false } }
  }

  private static func each(_ check: String, _ looked: [Looked], _ good: String) -> [Finding] {
    looked.map { finding(check, $0.subject, $0.look) ?? Finding(check, .passed, subject: $0.subject, evidence: good) }
  }

  /// One finding for what is as it should be on each tier, one for what was not looked at for each reason, and one for each other.
  private static func looks(
    _ check: String, _ facts: VerificationFacts, _ looked: [Looked], good: (Int) -> String
  ) -> [Finding] {
    facts.reached.flatMap { tier -> [Finding] in
      let own = looked.filter { $0.tier == tier }
      var (count, reasons, findings) = (0, [String: Int](), [Finding]())
      for look in own {
        switch look.look {
        case .good: count += 1
        case .notDone(let why): reasons[why, default: 0] += 1
        case .damaged, .obstructed:
          if let finding = finding(check, look.subject, look.look) { findings.append(finding) }
        }
      }
      if count > 0 { findings.append(Finding(check, .passed, subject: facts.tiers[tier], evidence: good(count))) }
      findings += reasons.sorted { $0.key < $1.key }.map {
        Finding(check, .notChecked, subject: facts.tiers[tier], evidence: "\($0.key) (\($0.value) objects)")
      }
      return findings
    }
  }

  private static func aggregate(_ check: String, _ tier: String, _ count: Int, _ what: String) -> [Finding] {
    count > 0 ? [Finding(check, .passed, subject: tier, evidence: "\(count) \(what)")] : []
  }

  private static func finding(_ check: String, _ subject: String, _ look: VerificationFacts.Look) -> Finding? {
    switch look {
    case .good: nil
    case .damaged(let error):
      Finding(
        check, .failure, subject: subject, evidence: error.message,
        advice: error.advice ?? "bring it back from another tier, or take a new backup")
    case .obstructed(let error):
      Finding(
        check, .couldNotVerify, subject: subject, evidence: error.message,
        advice: error.advice ?? "make it possible to look, and look again: nothing is known until then")
    case .notDone(let why): Finding(check, .notChecked, subject: subject, evidence: why)
    }
  }
}
