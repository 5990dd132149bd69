import DRCore
import DRPlan
import DRStorage

/// The platform's plan: its objectives, schedules, tiers and verification, table by table.
enum PlatformPlan {
  static func make() throws -> ProtectionPlan {
    func cron(_ text: String) throws -> ProtectionPlan.Schedule { .cron(try CronExpression(text)) }
    func objective(_ rto: Span, _ rpo: Span, _ priority: Objective.Priority) -> Objective {
      Objective(rto: rto.duration, rpo: rpo.duration, priority: priority)
    }
    let everywhere = ["local", "offsite", "offsite-west", "archive"]
    let verified = [
      ProtectionPlan.Verification(.data, try CronExpression("0 3 * * *")),
      ProtectionPlan.Verification(.restore, try CronExpression("0 1 * * sun")),
      ProtectionPlan.Verification(.drill, try CronExpression("0 10 * * thu#1")),
    ]
    return ProtectionPlan(
      "agent-platform", timeZone: "UTC", platform: objective(.hours(2), .hours(1), .critical),
      tiers: [
        ProtectionPlan.Tier("local", at: "/backups", retention: RetentionPolicy([.within(days: 7)])),
        ProtectionPlan.Tier(
          "offsite", at: "s3://backup-agent-platform-prod", storageClass: .standardIA,
          retention: RetentionPolicy([.within(days: 90)])),
        ProtectionPlan.Tier(
          "offsite-west", at: "s3://backup-agent-platform-prod-us-west-2", storageClass: .standardIA,
          retention: RetentionPolicy([.within(days: 90)])),
        ProtectionPlan.Tier(
          "archive", at: "s3://agent-platform-compliance-archive", storageClass: .deepArchive,
          retention: RetentionPolicy([.newest(84, each: .month)], lock: .init(.compliance, days: 2557)),
          delay: .hours(48)),
      ],
      components: [
        ProtectionPlan.Protected(
          try Component(parsing: "postgres/agent_orchestrator"), objective(.hours(1), .hours(1), .critical),
          on: everywhere,
          captures: [
            .init("base backup", .full, try cron("0 * * * *"), cadence: .hourly, taking: .minutes(20)),
            .init("daily dump, custom", .full, try cron("0 2 * * *"), cadence: .daily, taking: .minutes(25)),
            .init("daily dump, SQL", .full, try cron("30 2 * * *"), cadence: .daily, taking: .minutes(25)),
            .init("WAL", .log, .continuous(within: .minutes(5))),
            .init("WAL cleanup", .upkeep, try cron("0 3 * * *")),
            .init("monthly full to the archive", .full, try cron("0 4 1 * *"), cadence: .monthly, taking: .hours(1)),
          ], verifications: verified),
        ProtectionPlan.Protected(
          try Component(parsing: "redis/cache"), objective(.minutes(30), .minutes(15), .high), on: everywhere,
          captures: [
            .init("snapshot", .full, try cron("0 * * * *"), cadence: .hourly, taking: .minutes(5)),
            .init("daily snapshot", .full, try cron("0 2 * * *"), cadence: .daily, taking: .minutes(5)),
            .init("changes", .log, .continuous(within: .seconds(5))),
            .init("AOF rewrite", .upkeep, try cron("0 3 * * *")),
          ], verifications: verified),
        ProtectionPlan.Protected(
          try Component(parsing: "rabbitmq/platform"), objective(.minutes(45), .hours(1), .high), on: everywhere,
          captures: [
            .init("definitions", .full, try cron("0 2 * * *"), cadence: .daily, taking: .minutes(5)),
            .init("messages", .full, try cron("0 3 * * *"), cadence: .daily, taking: .minutes(30)),
            .init("tap", .log, .continuous(within: .minutes(1))),
          ], verifications: verified),
        ProtectionPlan.Protected(
          try Component(parsing: "config/app"), objective(.minutes(30), .hours(24), .high), on: everywhere,
          captures: [
            .init("git commit", .full, try cron("*/15 * * * *"), taking: .minutes(1)),
            .init("archive", .full, try cron("0 3 * * *"), cadence: .daily, taking: .minutes(10)),
          ], verifications: verified),
        ProtectionPlan.Protected(
          try Component(parsing: "config/certificates"), objective(.minutes(15), .minutes(5), .critical),
          on: everywhere,
          captures: [
            .init("archive", .full, try cron("0 3 * * *"), cadence: .daily, taking: .minutes(1)),
            .init("on change", .incremental, .onChange(within: .seconds(2))),
          ], verifications: verified),
      ])
  }
}
