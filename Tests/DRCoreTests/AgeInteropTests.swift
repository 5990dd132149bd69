import DRCore
import DRTestSupport
import Foundation
import Testing

/// Our data through the stock `age`, and its data through ours.
///
/// Large arrays are compared outside of `#expect`, here and in the other suites: to show how two of them differ takes it
/// minutes.
@Suite("age: interoperable with the stock command")
struct AgeInteropTests {
  static let sizes = [0, 1, 65_535, 65_536, 65_537, 131_072, 5 << 20 | 123]

  @Test("ours opens with age -d", arguments: sizes)
  func oursOpensWithAge(size: Int) async throws {
    var random = SeededBytes(seed: UInt64(size))
    let plain = random.bytes(size)
    let identity = AgeIdentity.generate()
    let stored = try ageEncrypt(plain, to: [try #require(identity.recipient)])
    let opened = try await open(stored, with: identity)
    let isSame = opened == plain
    #expect(isSame)
  }

  @Test("age's opens with ours", arguments: sizes)
  func agesOpensWithOurs(size: Int) async throws {
    var random = SeededBytes(seed: UInt64(size) + 1)
    let plain = random.bytes(size)
    let identity = AgeIdentity.generate()
    let made = try await runCommand("age", ["-r", "\(try #require(identity.recipient))"], input: plain)
    #expect(made.status == 0, "\(made.error)")
    let isSame = try ageDecrypt(made.output, with: [identity], pieces: 100_000) == plain
    #expect(isSame)
  }

  @Test("two recipients: each opens, a third does not")
  func twoRecipients() async throws {
    let plain = Array("escrow".utf8)
    let identities = [AgeIdentity.generate(), AgeIdentity.generate()]
    let recipients = identities.compactMap(\.recipient)
    let ours = try ageEncrypt(plain, to: recipients)
    let theirs = try await runCommand("age", recipients.flatMap { ["-r", "\($0)"] }, input: plain)
    #expect(theirs.status == 0, "\(theirs.error)")
    for identity in identities {
      #expect(try await open(ours, with: identity) == plain)
      #expect(try ageDecrypt(ours, with: [identity]) == plain)
      #expect(try ageDecrypt(theirs.output, with: [.generate(), .passphrase("x"), identity]) == plain)
    }
    let error = #expect(throws: DRError.self) { try ageDecrypt(ours, with: [.generate()]) }
    #expect(error?.code == .noMatchingIdentity)
    #expect(error?.message.contains("2 of type X25519") == true)
    #expect(error?.object == "test/object.age")
  }

  @Test("key files of age-keygen and ours are the same")
  func keyFiles() async throws {
    try await withTemporaryFolder { folder in
      let made = try await runCommand("age-keygen", [])
      #expect(made.status == 0, "\(made.error)")
      let text = String(decoding: made.output, as: UTF8.self)
      let theirs = try AgeIdentity.parseFile(text)
      try #require(theirs.count == 1)
      let publicKey = try #require(theirs[0].recipient)
      #expect(text.contains("# public key: \(publicKey)\n"))
      #expect(text.contains("\n\(try #require(theirs[0].secretText()))\n"))

      let ours = AgeIdentity.generate()
      let path = try write("# ours\n\n\(try #require(ours.secretText()))\n", folder)
      let derived = try await runCommand("age-keygen", ["-y", path])
      #expect(String(decoding: derived.output, as: UTF8.self) == "\(try #require(ours.recipient))\n")
    }
  }

  @Test("age -p and ours, both ways; a wrong passphrase is said")
  func passphrases() async throws {
    let plain = Array("behind a passphrase".utf8)
    let passphrase = "correct horse 🐎 battery"
    try await withTemporaryFolder { folder in
      try Data(plain).write(to: URL(fileURLWithPath: folder + "/plain"))
      try await onTerminal("age -p -o \(folder)/theirs.age \(folder)/plain", typing: [passphrase, passphrase])
      let theirs = try Array(Data(contentsOf: URL(fileURLWithPath: folder + "/theirs.age")))
      #expect(try ageDecrypt(theirs, with: [.generate(), .passphrase(passphrase)]) == plain)
      let wrong = #expect(throws: DRError.self) { try ageDecrypt(theirs, with: [.passphrase("correct horse")]) }
      #expect(wrong?.code == .noMatchingIdentity)
      #expect(wrong?.description.contains("passphrase") == true)
      #expect(wrong?.description.contains("horse") == false)
      // Refused by its work factor, 18, before any work is done.
      let costly = #expect(throws: DRError.self) {
        try ageDecrypt(theirs, with: [.passphrase(passphrase, maximumWorkFactor: 17)])
      }
      #expect(costly?.code == .invalidConfiguration)

      let ours = try ageEncrypt(plain, to: [.passphrase(passphrase, workFactor: 12)])
      try Data(ours).write(to: URL(fileURLWithPath: folder + "/ours.age"))
      try await onTerminal("age -d -o \(folder)/opened \(folder)/ours.age", typing: [passphrase])
      #expect(try Array(Data(contentsOf: URL(fileURLWithPath: folder + "/opened"))) == plain)
    }
  }

  @Test("armored data is refused, and the advice that the error gives works")
  func armor() async throws {
    let identity = AgeIdentity.generate()
    let plain = Array("in armor".utf8)
    let made = try await runCommand("age", ["-a", "-r", "\(try #require(identity.recipient))"], input: plain)
    for pieces in [1, 7, 4096] {
      let error = #expect(throws: DRError.self) { try ageDecrypt(made.output, with: [identity], pieces: pieces) }
      #expect(error?.code == .malformedData)
      #expect(error?.message.contains("armored") == true)
      #expect(error?.advice?.contains("sed '1d;$d' FILE | base64 -d > FILE.age") == true)
    }
    let decoded = try await runCommand("sh", ["-c", "sed '1d;$d' | base64 -d"], input: made.output)
    #expect(try ageDecrypt(decoded.output, with: [identity]) == plain)
  }

  private func open(_ stored: [UInt8], with identity: AgeIdentity) async throws -> [UInt8] {
    try await withTemporaryFolder { folder in
      let path = try write("\(try #require(identity.secretText()))\n", folder)
      let opened = try await runCommand("age", ["-d", "-i", path], input: stored)
      #expect(opened.status == 0, "\(opened.error)")
      return opened.output
    }
  }

  private func write(_ text: String, _ folder: String) throws -> String {
    let path = folder + "/key.txt"
    let created = FileManager.default.createFile(
      atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
    try #require(created)
    return path
  }

  /// Runs a command that reads passphrases from its terminal, which `script` gives it.
  private func onTerminal(_ command: String, typing lines: [String]) async throws {
    let typed = Array(lines.map { $0 + "\n" }.joined().utf8)
    let run = try await runCommand("script", ["-qec", command, "/dev/null"], input: typed)
    #expect(run.status == 0, "\(String(decoding: run.output, as: UTF8.self)) \(run.error)")
  }
}
