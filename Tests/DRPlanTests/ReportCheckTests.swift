import DRCore
import DRPlan
import DRTestSupport
import Foundation
import Testing

/// Signed reports: stock tools verify them, and whatever is changed or removed is found.
struct ReportCheckTests {
  /// A key pair as openssl makes it.
  private func makeKey(_ name: String, in folder: String) async throws -> (secret: String, open: String) {
    let (secret, open) = ("\(folder)/\(name).key", "\(folder)/\(name).pub")
    for arguments in [
      ["genpkey", "-algorithm", "ed25519", "-out", secret], ["pkey", "-in", secret, "-pubout", "-out", open],
    ] {
      let result = try await runCommand("openssl", arguments)
      try #require(result.status == 0, "\(result.error)")
    }
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: secret)
    return (secret, open)
  }

  /// Three reports of a history, signed.
  private func history(_ key: ReportSigningKey) throws -> [ReportFiles] {
    var all: [ReportFiles] = []
    for number in 1...3 {
      let report = try SampleReport().make().placed(number, after: all.last)
      all.append(try ReportFiles(report, name: "0000000\(number)", signedBy: key))
    }
    return all
  }

  private func failed(_ check: ReportCheck, _ files: [ReportFiles]) -> [String] {
    check.findings(files).filter { $0.severity == .failure }.map { "\($0.check) \($0.subject)" }
  }

  @Test("openssl verifies a signature over what DSSE says, and finds a changed byte")
  func stockTools() async throws {
    try await withTemporaryFolder { folder in
      let (secret, open) = try await makeKey("signer", in: folder)
      let key = try ReportSigningKey(file: secret)
      let envelope = try #require(try history(key)[0].envelope)
      let statement = try SignedStatement(json: envelope)
      // By hand, after the specification, from the envelope alone.
      let object = try #require(JSONSerialization.jsonObject(with: envelope) as? [String: Any])
      let payload = try #require((object["payload"] as? String).flatMap { Data(base64Encoded: $0) })
      let type = try #require(object["payloadType"] as? String)
      let bytes = Data("DSSEv1 \(type.utf8.count) \(type) \(payload.count) ".utf8) + payload
      #expect(bytes == SignedStatement.encoded(statement.payload) && type == "application/vnd.in-toto+json")
      try bytes.write(to: URL(fileURLWithPath: "\(folder)/pae"))
      try #require(statement.signature).write(to: URL(fileURLWithPath: "\(folder)/sig"))
      let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", open, "-rawin", "-sigfile", "\(folder)/sig", "-in"]
      let right = try await runCommand("openssl", verify + ["\(folder)/pae"])
      #expect(right.status == 0, "\(right)")
      var changed = bytes
      changed[changed.count / 2] ^= 1
      try changed.write(to: URL(fileURLWithPath: "\(folder)/changed"))
      #expect(try await runCommand("openssl", verify + ["\(folder)/changed"]).status != 0)
      // The key's name is the digest of what openssl writes.
      let der = try await runCommand("openssl", ["pkey", "-pubin", "-in", open, "-outform", "DER"])
      let digest = try await runCommand("sha256sum", [], input: der.output)
      #expect(String(decoding: digest.output.prefix(64), as: UTF8.self) == key.verifying.id)
      #expect(key.verifying.pem == (try String(contentsOfFile: open, encoding: .utf8)))
      let named = (object["signatures"] as? [[String: String]])?.first?["keyid"]
      #expect(named == key.verifying.id)
    }
  }

  @Test("A change of each part, a removed report, a broken link and another key are found")
  func tampering() async throws {
    try await withTemporaryFolder { folder in
      let key = try ReportSigningKey(file: try await makeKey("signer", in: folder).secret)
      let other = try ReportSigningKey(file: try await makeKey("other", in: folder).secret)
      let files = try history(key)
      let check = ReportCheck(key: key.verifying)
      #expect(failed(check, files).isEmpty && failed(check, files.reversed()).isEmpty)
      func with(_ index: Int, _ change: (inout ReportFiles) -> Void) -> [ReportFiles] {
        var all = files
        change(&all[index])
        return all
      }
      func edit(_ data: Data, _ old: String, _ new: String) -> Data {
        Data(String(decoding: data, as: UTF8.self).replacing(old, with: new).utf8)
      }
      // The report, in a place that its own reader cannot judge.
      var cases = [
        (
          with(1) { $0.report = edit($0.report, "\"ada\"", "\"eve\"") },
          ["report-subject 00000002", "report-chain 00000003"]
        )
      ]
      // What was made of it for people.
      cases.append((with(1) { $0.renderings["html"]?.append(0x20) }, ["report-subject 00000002"]))
      cases.append((with(1) { $0.renderings["md"] = Data("all is well".utf8) }, ["report-subject 00000002"]))
      cases.append((with(1) { $0.renderings["md"] = nil }, []))
      // The signature, the payload that it is over, and none at all.
      cases.append((with(1) { $0.envelope = nil }, ["report-signature 00000002"]))
      let envelope = try #require(files[1].envelope)
      var object = try #require(JSONSerialization.jsonObject(with: envelope) as? [String: Any])
      let payload = try #require((object["payload"] as? String).flatMap { Data(base64Encoded: $0) })
      object["payload"] = edit(payload, "\"passed\"", "\"failed\"").base64EncodedString()
      let changedPayload = try JSONSerialization.data(withJSONObject: object)
      cases.append((with(1) { $0.envelope = changedPayload }, ["report-signature 00000002"]))
      var signatures = try #require(object["signatures"] as? [[String: String]])
      var signature = try #require(signatures[0]["sig"].flatMap { Data(base64Encoded: $0) })
      signature[10] ^= 1
      signatures[0]["sig"] = signature.base64EncodedString()
      object["payload"] = payload.base64EncodedString()
      object["signatures"] = signatures
      let changedSignature = try JSONSerialization.data(withJSONObject: object)
      cases.append((with(1) { $0.envelope = changedSignature }, ["report-signature 00000002"]))
      object["signatures"] = [[String: String]]()
      let unsigned = try JSONSerialization.data(withJSONObject: object)
      cases.append((with(1) { $0.envelope = unsigned }, ["report-signature 00000002"]))
      // The signature of another report, and of another key that says it is this one.
      let swapped = failed(check, with(1) { $0.envelope = files[0].envelope })
      #expect(Set(swapped) == ["report-subject 00000002"])
      let forged = try ReportFiles(try RunReport(json: files[1].report), name: "00000002", signedBy: other)
      let hinted = edit(try #require(forged.envelope), other.verifying.id, key.verifying.id)
      cases.append((with(1) { $0.envelope = hinted }, ["report-signature 00000002"]))
      for (index, (files, expected)) in cases.enumerated() {
        let found = failed(check, files)
        #expect(found == expected, "case \(index)")
      }
      #expect(failed(ReportCheck(key: other.verifying), files).count == 3)
      // One that was removed from the middle, the beginning and the end.
      #expect(failed(check, [files[0], files[2]]) == ["report-chain 00000003"])
      #expect(failed(check, [files[1], files[2]]) == ["report-chain 00000002"])
      let digest = digest(files[0].report)
      #expect(failed(ReportCheck(key: key.verifying, after: digest), [files[1], files[2]]).isEmpty)
      #expect(failed(check, [files[0], files[1]]).isEmpty)
      let head = self.digest(files[2].report)
      #expect(failed(ReportCheck(key: key.verifying, head: head), files).isEmpty)
      #expect(failed(ReportCheck(key: key.verifying, head: head), [files[0], files[1]]) == ["report-chain 00000002"])
      // One that was put between them, signed, but with another link.
      let inserted = try ReportFiles(
        try SampleReport.changed { $0.ended = SampleReport.at(999) }.placed(3, after: files[0]), name: "00000003",
        signedBy: key)
      #expect(failed(check, [files[0], files[1], inserted]) == ["report-chain 00000003"])
    }
  }

  private func digest(_ data: Data) -> String {
    var digest = StreamDigest()
    data.withUnsafeBytes { digest.update($0) }
    return digest.hex()
  }

  @Test(
    "Keys that are no keys, the secret half, an encrypted one, and one that others can read are refused, without a word of them"
  )
  func keys() async throws {
    try await withTemporaryFolder { folder in
      let (secret, open) = try await makeKey("signer", in: folder)
      let pem = try String(contentsOfFile: secret, encoding: .utf8)
      let body = String(pem.split(separator: "\n")[1])
      func message(_ body: () throws -> Void) -> String {
        do { try body() } catch { return "\(error)" }
        return "taken"
      }
      try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: secret)
      try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: open)
      let rsa = try await runCommand("openssl", ["genpkey", "-algorithm", "ed448"])
      let sealed = try await runCommand(
        "openssl", ["pkey", "-in", secret, "-aes256", "-passout", "pass:secret"])
      let said = [
        message { _ = try ReportSigningKey(file: secret) }, message { _ = try ReportVerifyingKey(file: secret) },
        message { _ = try ReportSigningKey(file: open) }, message { _ = try ReportSigningKey(file: "\(folder)/none") },
        message { _ = try ReportSigningKey(pem: String(decoding: rsa.output, as: UTF8.self)) },
        message { _ = try ReportSigningKey(pem: String(decoding: sealed.output, as: UTF8.self)) },
        message { _ = try ReportSigningKey(environment: "DR_NO_SUCH_KEY") },
        message { _ = try ReportVerifyingKey(pem: "") },
      ]
      let expected = [
        "others can read", "secret key, where its public half belongs", "no PEM", "No such file", "no Ed25519 key",
        "encrypted with a passphrase", "DR_NO_SUCH_KEY", "no PEM",
      ]
      for (text, word) in zip(said, expected) {
        #expect(text.contains(word), "\(text)")
        #expect(!text.contains(body))
      }
    }
  }

  @Test(
    "dr-verify report checks a folder offline: exit 0, 1 for what was changed, 2 without a key, 64 when called wrongly")
  func program() async throws {
    try await withTemporaryFolder { folder in
      let (secret, open) = try await makeKey("signer", in: folder)
      let reports = "\(folder)/reports"
      try FileManager.default.createDirectory(atPath: reports, withIntermediateDirectories: false)
      for files in try history(try ReportSigningKey(file: secret)) {
        try files.report.write(to: URL(fileURLWithPath: "\(reports)/\(files.name).json"))
        for (ending, content) in files.renderings {
          try content.write(to: URL(fileURLWithPath: "\(reports)/\(files.name).\(ending)"))
        }
        try #require(files.envelope).write(to: URL(fileURLWithPath: "\(reports)/\(files.name).dsse.json"))
      }
      func verify(_ arguments: String...) async throws -> (status: Int32, said: String) {
        let result = try await runCommand(Self.program("dr-verify"), ["report"] + arguments)
        return (result.status, String(decoding: result.output, as: UTF8.self) + result.error)
      }
      let right = try await verify(reports, "--key", open)
      #expect(right.status == 0 && right.said.contains("3 reports, each after the one before"), "\(right)")
      let single = try await verify("\(reports)/00000001.json", "--key", open)
      #expect(single.status == 0, "\(single)")
      let later = try await verify("\(reports)/00000002.json", "--key", open)
      #expect(later.status == 1 && later.said.contains("--after"), "\(later)")
      #expect(try await verify(reports).status == 64)
      #expect(try await verify(reports, "--key", secret).status == 2)
      #expect(try await verify("\(folder)/none", "--key", open).status == 2)
      try FileManager.default.removeItem(atPath: "\(reports)/00000002.json")
      let removed = try await verify(reports, "--key", open, "--json")
      #expect(
        removed.status == 1 && removed.said.contains("a report was removed or changed between them"), "\(removed)")
    }
  }

  private static func program(_ name: String) -> String {
    let beside = Bundle.main.bundleURL.appending(path: name).path
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().path
    return FileManager.default.isExecutableFile(atPath: beside) ? beside : "\(root)/.build/release/\(name)"
  }
}
