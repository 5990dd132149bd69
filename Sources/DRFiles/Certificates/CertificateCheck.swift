public import DRCore
public import Foundation
public import Logging

/// Looks at the certificates of a backup of files: which have ended or soon will, and which do not fit the key beside them.
///
/// Says it of the tree as it was captured, by its manifest alone: nothing is read or decrypted.
public struct CertificateCheck: Verifier {
  private let manifest: BackupManifest
  /// How long a certificate has to be valid yet.
  public var margin: Duration
  public var now: Date

  public init(_ manifest: BackupManifest, margin: Duration = .seconds(30 * 86_400), now: Date = Date()) {
    self.manifest = manifest
    self.margin = margin
    self.now = now
  }

  public func verify(logger: Logger) async throws -> [Finding] { findings() }

  /// As ``verify(logger:)``.
  public func findings() -> [Finding] {
    let certificates = CertificateFacts.all(of: manifest)
    var findings = certificates.map(validity)
    findings += certificates.compactMap(key)
    for path in manifest.properties["unreadableCertificates"]?.array?.compactMap(\.string) ?? [] {
      findings.append(
        Finding(
          "certificate-readable", .warning, subject: path, evidence: "what it holds as a certificate cannot be parsed",
          advice: "see it with openssl x509 -text"))
    }
    if findings.isEmpty {
      findings.append(
        Finding("certificate-validity", .notice, subject: manifest.id, evidence: "the backup holds no certificate"))
    }
    return findings
  }

  private func validity(_ certificate: CertificateFacts) -> Finding {
    let end = Timestamp.format(certificate.validUntil)
    let left = certificate.validUntil.timeIntervalSince(now)
    func finding(_ severity: Finding.Severity, _ evidence: String, _ advice: String?) -> Finding {
      Finding(
        "certificate-validity", severity, subject: certificate.title, evidence: evidence, advice: advice)
    }
    if left < margin / .seconds(1), certificate.isTrustAnchor {
      return finding(.notice, "a trusted root that \(left < 0 ? "ended" : "ends") \(end)", nil)
    }
    if left < 0 { return finding(.failure, "it ended \(end)", "renew it") }
    if certificate.validFrom > now {
      return finding(
        .warning, "it begins \(Timestamp.format(certificate.validFrom)) only", "see the clock, or the certificate")
    }
    let days = Int(left / 86_400)
    let evidence = "it ends \(end), in \(days) \(days == 1 ? "day" : "days")"
    return left < margin / .seconds(1) ? finding(.warning, evidence, "renew it") : finding(.passed, evidence, nil)
  }

  private func key(_ certificate: CertificateFacts) -> Finding? {
    guard let key = certificate.key else { return nil }
    let elsewhere = certificate.fittingKey.map { "; \($0) fits it" } ?? ""
    func finding(_ severity: Finding.Severity, _ evidence: String, _ advice: String? = nil) -> Finding {
      Finding("certificate-key", severity, subject: certificate.title, evidence: evidence + elsewhere, advice: advice)
    }
    if certificate.keyIsEncrypted == true { return finding(.notice, "\(key) could not be compared: it is encrypted") }
    guard let matches = certificate.keyMatches else { return nil }
    return matches
      ? finding(.passed, "\(key) is its key")
      : finding(
        .failure, "\(key) is the key of another certificate",
        "a server will not start with the two: bring certificate and key of one issue together")
  }
}
