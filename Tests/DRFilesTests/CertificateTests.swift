import DRCore
import DRFiles
import Foundation
import Testing

/// Certificates and keys that OpenSSL makes.
@Suite struct CertificateTests {
  /// RSA, an elliptic curve with its parameters, Ed25519 in DER; a chain; keys that fit and do not, and one with a password.
  private static let made = """
    cd "$1"; mkdir -p certs live other
    new() { openssl req -x509 -newkey rsa:2048 -nodes -subj "$1" -days "$2" -keyout "$3" -out "$4" 2> /dev/null; }
    new /CN=app 10 certs/app.key certs/app.pem
    openssl ecparam -genkey -name prime256v1 -out certs/ec.key
    openssl req -x509 -new -key certs/ec.key -subj '/CN=ec/O=Acme, Inc' -days 400 -out certs/ec.crt \\
      -addext 'subjectAltName=DNS:a.example,DNS:*.b.example,IP:10.0.0.1,email:a@b.example'
    openssl genpkey -algorithm ed25519 -out other/ed.key
    openssl req -x509 -key other/ed.key -subj /CN=ed -days 100 -outform DER -out certs/ed.der
    new /CN=new 100 live/new.key live/fullchain.pem
    new /CN=old 100 live/privkey.pem live/old.crt
    new /CN=locked 100 certs/plain.key certs/locked.pem
    openssl rsa -aes256 -passout pass:x -in certs/plain.key -out certs/locked.key 2> /dev/null; rm certs/plain.key live/new.key
    { cat certs/ec.crt; openssl x509 -in certs/app.pem -text; } > certs/chain.pem
    new '/CN=root' 1 certs/root.key certs/root.pem; rm certs/root.key
    printf -- '-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n' > broken.pem
    printf '0 is no certificate' > text.crt; head -c 3000 /dev/urandom > noise.bin
    openssl x509 -in certs/ec.crt -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr A-F a-f
    openssl x509 -in certs/ec.crt -noout -serial | sed 's/.*=//' | tr A-F a-f
    openssl x509 -in certs/ec.crt -noout -enddate | sed 's/.*=//'
    """

  @Test(
    "What OpenSSL says of a certificate, the manifest says; each with its key, wherever that lies, or the wrong one")
  func inventory() async throws {
    try await Place.with { place in
      let said = try await shell(Self.made, place.tree).split(separator: "\n").map(String.init)
      let identity = AgeIdentity.generate()
      let manifest = try await place.capture(try place.source(), recipients: [try #require(identity.recipient)])
      let found = CertificateFacts.all(of: manifest)
      #expect(
        found.map { "\($0.path) \($0.number) \($0.subject)" }.sorted() == [
          "certs/app.pem 1 CN=app", "certs/chain.pem 1 O=Acme\\, Inc,CN=ec", "certs/chain.pem 2 CN=app",
          "certs/ec.crt 1 O=Acme\\, Inc,CN=ec", "certs/ed.der 1 CN=ed", "certs/locked.pem 1 CN=locked",
          "certs/root.pem 1 CN=root", "live/fullchain.pem 1 CN=new", "live/old.crt 1 CN=old",
        ])
      let curve = try #require(found.first { $0.path == "certs/ec.crt" })
      #expect(curve.sha256 == said[0] && said[1].hasSuffix(curve.serial), "\(curve)")
      #expect(curve.names == ["a.example", "*.b.example", "10.0.0.1", "a@b.example"])
      let format = DateFormatter()
      format.locale = Locale(identifier: "en_US_POSIX")
      format.dateFormat = "MMM d HH:mm:ss yyyy zzz"
      #expect(format.date(from: said[2]) == curve.validUntil)
      func key(_ path: String, _ number: Int = 1) -> String {
        let facts = found.first { $0.path == path && $0.number == number }
        return "\(facts?.key ?? "none") \(facts?.keyMatches.map(String.init(describing:)) ?? "unknown")"
      }
      #expect(key("certs/app.pem") == "certs/app.key true" && key("certs/chain.pem", 2) == "certs/app.key true")
      #expect(key("certs/ed.der") == "other/ed.key true" && key("live/old.crt") == "live/privkey.pem true")
      #expect(key("live/fullchain.pem") == "live/privkey.pem false")
      #expect(key("certs/locked.pem") == "certs/locked.key unknown" && key("certs/root.pem") == "none unknown")
      #expect(manifest.properties["unreadableCertificates"] == ["broken.pem"])
      // Nothing of a key is in the manifest.
      let text = String(decoding: try manifest.json(), as: UTF8.self)
      #expect(!text.contains("PRIVATE") && text.contains(curve.sha256))
    }
  }

  @Test(
    "The key beside a certificate is judged, and not hidden by one elsewhere that fits; an encrypted one is mentioned")
  func mismatches() async throws {
    try await Place.with { place in
      try await shell(
        """
        cd "$1"; mkdir a le archive one ca lone both; exec 2> /dev/null
        new() { openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=$1" -days 90 -keyout "$2" -out "$3"; }
        new a a/app.key.old a/app.crt; new b a/app.key b.crt; rm b.crt
        new le archive/old.key le/fullchain.pem; new x le/privkey.pem x.crt; rm x.crt
        new one archive/one.key one/web.crt; cp a/app.key one/tls.pem
        new ca k ca/ca.crt; rm k; new srv ca/server.key ca/server.crt
        new lone lone/key.pem lone/lone.crt; new both k both/all.pem; openssl rsa -aes128 -traditional -passout pass:x -in k >> both/all.pem; rm k
        new $'esc\\e[31m' esc.key esc.crt
        """, place.tree)
      let identity = AgeIdentity.generate()
      let manifest = try await place.capture(try place.source(), recipients: [try #require(identity.recipient)])
      let said = CertificateCheck(manifest).findings().filter { $0.check == "certificate-key" }.map {
        "\($0.severity) \($0.subject) | \($0.evidence)"
      }.sorted()
      #expect(
        said == [
          "failure a/app.crt: CN=a | a/app.key is the key of another certificate; a/app.key.old fits it",
          "failure le/fullchain.pem: CN=le | le/privkey.pem is the key of another certificate; archive/old.key fits it",
          "failure one/web.crt: CN=one | one/tls.pem is the key of another certificate; archive/one.key fits it",
          "notice both/all.pem: CN=both | both/all.pem could not be compared: it is encrypted",
          "passed ca/server.crt: CN=srv | ca/server.key is its key",
          "passed esc.crt: CN=esc\\u{1B}[31m | esc.key is its key",
          "passed lone/lone.crt: CN=lone | lone/key.pem is its key",
        ], "\(said)")
    }
  }

  @Test("Ended, ending and mismatched certificates are findings; a trusted root that ended is none that fails")
  func findings() async throws {
    try await Place.with { place in
      _ = try await shell(Self.made, place.tree)
      let identity = AgeIdentity.generate()
      let manifest = try await place.capture(try place.source(), recipients: [try #require(identity.recipient)])
      func severities(_ check: CertificateCheck) async throws -> [String: Finding.Severity] {
        var all: [String: Finding.Severity] = [:]
        for finding in try await check.verify(logger: quiet) {
          all["\(finding.check) \(finding.subject.prefix { $0 != ":" })"] = finding.severity
        }
        return all
      }
      let now = try await severities(CertificateCheck(manifest))
      #expect(now["certificate-validity certs/app.pem"] == .warning && now["certificate-key certs/app.pem"] == .passed)
      #expect(now["certificate-validity certs/ec.crt"] == .passed && now["certificate-readable broken.pem"] == .warning)
      #expect(
        now["certificate-key live/fullchain.pem"] == .failure && now["certificate-key certs/locked.pem"] == .notice)
      #expect(now["certificate-validity certs/root.pem"] == .notice)
      let soon = try await severities(CertificateCheck(manifest, margin: .seconds(86_400 * 5)))
      #expect(soon["certificate-validity certs/app.pem"] == .passed)
      let late = try await severities(CertificateCheck(manifest, now: Date().addingTimeInterval(86_400 * 50)))
      #expect(
        late["certificate-validity certs/app.pem"] == .failure && late["certificate-validity certs/ed.der"] == .passed)
      #expect(late["certificate-validity certs/chain.pem (2)"] == .failure)
      let early = try await severities(CertificateCheck(manifest, now: Date().addingTimeInterval(-86_400)))
      #expect(early["certificate-validity certs/ec.crt"] == .warning)
      try place.write("readme.md", "no certificate")
      let none = try await place.capture(try place.source(["readme.md"]))
      #expect(CertificateCheck(none).findings().map(\.severity) == [.notice])
    }
  }
}
