import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport

/// Shows the rules of a bucket's lifecycle, and sets the one for uploads that were never finished.
struct Lifecycle: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows a bucket's lifecycle rules; sets the one that removes unfinished uploads.",
    discussion: """
      What a killed put has sent in parts stays in the bucket, unseen and paid for, until it is removed: by such a rule, or by       'dr-tier clean'. The rule is about the keys below the tier's prefix; all other rules stay as they are.       It needs s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration.
      """)

  @OptionGroup var tier: TierArguments

  @Option(
    parsing: .unconditional,
    help: "Have the bucket remove uploads that were not finished after so many days. Without, the rules are only shown."
  )
  var abandonedUploadsDays: Int?

  func validate() throws {
    try allow("--abandoned-uploads-days", abandonedUploadsDays, 1...3650)
  }

  func run() async throws {
    try await reporting {
      let opened = try await tier.open(.reading)
      guard let bucket = opened as? S3Tier else {
        throw DRError(
          .unsupported, "\(opened.name) is no bucket: it has no lifecycle rules",
          advice: "run dr-tier clean, or dr-repository clean, once a day instead")
      }
      let rules =
        if let days = abandonedUploadsDays {
          try await bucket.setAbandonedUploadsRule(days: days)
        } else {
          try await bucket.lifecycleRules()
        }
      for rule in rules { print(Lifecycle.text(rule)) }
      if rules.isEmpty { print("no lifecycle rules") }
    }
  }

  private static func text(_ rule: S3LifecycleRule) -> String {
    var actions = rule.otherActions
    if let days = rule.abandonedUploadsDays { actions.insert("unfinished uploads after \(days) days", at: 0) }
    return "\(rule.id)\t\(rule.isEnabled ? "enabled" : "disabled")\t"
      + (rule.prefix.isEmpty ? "whole bucket" : "below '\(rule.prefix)'") + "\t" + actions.joined(separator: ", ")
  }
}
