import DRCore
import DRFiles
import DRStorage
import Foundation
import Testing

@Suite struct RecoveryKitTests {
  @Test(
    "The page says where, with which keys and how; it fits on paper, holds no secret, and what it says to type works")
  func page() async throws {
    try await Place.with { place in
      try place.write("app.yml", "port: 8080")
      let identity = AgeIdentity.generate()
      let recipient = try #require(identity.recipient)
      let manifest = try await place.capture(try place.source(), recipients: [recipient])
      let kit = RecoveryKit(
        repository: place.folder + "/repository", copies: ["s3://elsewhere/app"], recipients: [recipient.description],
        catalog: try await place.repository.catalog())
      let page = kit.page
      for text in [place.folder, "s3://elsewhere/app", recipient.description, manifest.id, "config/app: 1 backups"] {
        #expect(page.contains(text), "\(text)")
      }
      #expect(!page.contains(try #require(identity.secretText())))
      #expect(!page.split(separator: "\n").contains { $0.count > 92 && !$0.contains("/") && !$0.contains("age1") })
      // The fingerprint is what the page's own command gives.
      let digest = try await shell(#"printf %s "$1" | sha256sum | cut -c 1-16"#, recipient.description)
      #expect(RecoveryKit.fingerprint(recipient.description).replacing(" ", with: "") + "\n" == digest)
      let without = RecoveryKit(
        repository: "/r", recipients: [], catalog: try await place.repository.catalog(),
        made: Date(timeIntervalSince1970: 0))
      #expect(without.page.contains("not encrypted") && without.page.contains("made 1970-01-01"))
    }
  }
}
