public import Foundation

/// Figures in Prometheus' text format, for node_exporter's textfile collector.
///
/// Source: "Exposition formats" of the Prometheus documentation, the text-based format.
public struct PrometheusText: Sendable {
  private var families: [(name: String, help: String, samples: [(labels: [(String, String)], value: Double)])] = []

  public init() {}

  /// - Parameters:
  ///   - name: Letters, digits and underscores.
  ///   - value: Nil leaves it out: what is not known is no number.
  public mutating func gauge(_ name: String, _ help: String, _ labels: [(String, String)] = [], _ value: Double?) {
    if !families.contains(where: { $0.name == name }) { families.append((name, help, [])) }
    guard let value, let index = families.firstIndex(where: { $0.name == name }) else { return }
    families[index].samples.append((labels, value))
  }

  public var text: String {
    families.filter { !$0.samples.isEmpty }.map { family in
      let lines = family.samples.map { sample in
        let labels = sample.labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",")
        return "\(family.name)\(labels.isEmpty ? "" : "{\(labels)}") \(sample.value)"
      }
      return (["# HELP \(family.name) \(family.help)", "# TYPE \(family.name) gauge"] + lines).joined(separator: "\n")
        + "\n"
    }.joined()
  }

  private static func escaped(_ text: String) -> String {
    text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }

  /// Writes it whole or not at all: a collector may read at any moment.
  public func write(to path: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
  }
}

extension RecoveryStanding {
  /// The figures of ``record(at:)``, for a file.
  public func add(to text: inout PrometheusText, at moment: Date) {
    let labels = [("component", "\(component)")]
    text.gauge(
      "dr_recovery_point_age_seconds", "What would be lost if disaster struck now.", labels,
      exposure(at: moment)?.seconds)
    text.gauge("dr_recovery_point_promised_seconds", "The promised RPO.", labels, rpo)
    text.gauge(
      "dr_recovery_point_exists", "Whether anything could be recovered.", labels, durable == nil ? 0 : 1)
    text.gauge(
      "dr_verified_recovery_point_age_seconds", "How old the newest verified recovery point is.", labels,
      verifiedAge(at: moment)?.seconds)
    text.gauge(
      "dr_verified_recovery_point_exists", "Whether any was ever verified.", labels, verified == nil ? 0 : 1)
    text.gauge(
      "dr_recovery_time_forecast_seconds", "How long a restore would take, as measured.", labels, forecast?.seconds)
    text.gauge("dr_recovery_time_promised_seconds", "The promised RTO.", labels, rto)
  }
}

extension ScheduleBook {
  /// When each job last succeeded, and how often it has failed since. Of jobs that go on all the time, see
  /// ``standing(of:at:)``.
  public func add(to text: inout PrometheusText) {
    for (name, entry) in jobs.sorted(by: { $0.key < $1.key }) {
      let labels = [("job", name)]
      text.gauge(
        "dr_job_last_success_timestamp_seconds", "When the job last succeeded.", labels,
        entry.lastSuccess?.timeIntervalSince1970)
      text.gauge("dr_job_failures", "How often the job has failed since it succeeded.", labels, Double(entry.failures))
      text.gauge("dr_job_running", "Whether the job runs.", labels, entry.running == nil ? 0 : 1)
    }
  }
}
