public import DRCore
public import Foundation
import Metrics

/// Where a component stands now: what could be recovered if disaster struck at this moment, and how long that would take.
public struct RecoveryStanding: Hashable, Sendable, Codable {
  public var component: Component
  /// Up to when everything is durable; nil: nothing can be recovered.
  public var durable: Date?
  /// The newest recovery point of a backup that was verified; nil: none ever was.
  public var verified: Date?
  /// By tier, how long a restore from it would take; without it nothing was measured.
  public var forecasts: [String: Span]
  /// What is promised, in seconds.
  public var rpo: Double
  public var rto: Double

  public init(
    _ component: Component, durable: Date?, verified: Date?, forecasts: [String: Span] = [:], promised: Objective
  ) {
    self.component = component
    self.durable = durable
    self.verified = verified
    self.forecasts = forecasts
    rpo = promised.rpo / .seconds(1)
    rto = promised.rto / .seconds(1)
  }

  /// What would be lost at a moment.
  public func exposure(at moment: Date) -> Span? { durable.map { .seconds(max(0, moment.timeIntervalSince($0))) } }

  /// How old what was verified is.
  public func verifiedAge(at moment: Date) -> Span? { verified.map { .seconds(max(0, moment.timeIntervalSince($0))) } }

  /// From the tier that is fastest.
  public var forecast: Span? { forecasts.values.min() }

  /// Whether what is promised would be kept, if disaster struck now.
  ///
  /// - Parameter verifiedWithin: How old the newest verified recovery point may be.
  public func findings(at moment: Date, verifiedWithin: Span = .hours(48)) -> [Finding] {
    let subject = "\(component)"
    var findings: [Finding] = []
    if let loss = exposure(at: moment) {
      findings.append(
        Finding(
          "rpo-now", loss.seconds <= rpo ? .passed : .failure, subject: subject,
          evidence: "\(loss.rounded) would be lost now, \(Span.seconds(rpo)) promised",
          advice: loss.seconds <= rpo ? nil : "see why nothing was stored since: dr-backup serve, its jobs below"))
    } else {
      findings.append(
        Finding(
          "rpo-now", .failure, subject: subject, evidence: "nothing could be recovered",
          advice: "take a backup: dr-backup run"))
    }
    switch verifiedAge(at: moment) {
    case let age? where age <= verifiedWithin:
      findings.append(
        Finding("verified", .passed, subject: subject, evidence: "a recovery point \(age.rounded) old was verified"))
    case let age?:
      findings.append(
        Finding(
          "verified", .failure, subject: subject,
          evidence: "stale: the newest verified recovery point is \(age.rounded) old, \(verifiedWithin) allowed",
          advice: "verify a backup, or see why its verification fails"))
    case nil:
      findings.append(
        Finding(
          "verified", .failure, subject: subject, evidence: "never verified: a backup that was not looked at is a hope",
          advice: "verify a backup: dr-backup run --only 'verification, data'"))
    }
    if let forecast {
      findings.append(
        Finding(
          "rto-now", forecast.seconds <= rto ? .passed : .failure, subject: subject,
          evidence: "\(forecast.rounded) from the fastest tier, \(Span.seconds(rto)) promised",
          advice: forecast.seconds <= rto ? nil : "restore faster, hold less, or promise less"))
    } else {
      findings.append(
        Finding(
          "rto-now", .notice, subject: subject, evidence: "not known: no restore of it was measured",
          advice: "run a restore test, and name what it measured"))
    }
    return findings
  }

  /// Gives the figures to swift-metrics.
  public func record(at moment: Date) {
    let dimensions = [("component", "\(component)")]
    func gauge(_ name: String, _ value: Double?) {
      guard let value else { return }
      Gauge(label: "disaster_recovery.\(name)", dimensions: dimensions).record(value)
    }
    gauge("recovery_point.age_seconds", exposure(at: moment)?.seconds)
    gauge("recovery_point.promised_seconds", rpo)
    gauge("verified_recovery_point.age_seconds", verifiedAge(at: moment)?.seconds)
    gauge("recovery_time.forecast_seconds", forecast?.seconds)
    gauge("recovery_time.promised_seconds", rto)
  }

  /// Of components that are recovered side by side: that of the slowest, which is the critical path; nil: of one nothing is known.
  public static func platformForecast(_ standings: [RecoveryStanding]) -> (component: Component, time: Span)? {
    let known = standings.compactMap { standing in standing.forecast.map { (standing.component, $0) } }
    guard known.count == standings.count else { return nil }
    return known.max { $0.1 < $1.1 }
  }
}
