import DRCore
public import Foundation

/// A DSSE envelope (https://github.com/secure-systems-lab/dsse, version 1.0.2) over an in-toto statement: what was signed, and by whom.
public struct SignedStatement: Sendable {
  /// Of an in-toto statement.
  public static let payloadType = "application/vnd.in-toto+json"

  private struct Envelope: Codable {
    struct Signature: Codable {
      var keyid: String?
      var sig: String
    }

    var payload: String
    var payloadType: String
    var signatures: [Signature]
  }

  /// The statement's bytes, as they were signed.
  public let payload: Data
  private let signatures: [Envelope.Signature]

  /// Signs.
  ///
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` if the key cannot sign.
  public init(signing payload: Data, with key: ReportSigningKey) throws {
    self.payload = payload
    let signature: Data
    do {
      signature = try key.signature(of: Self.encoded(payload))
    } catch {
      throw DRError(.invalidConfiguration, "the signing key does not sign", cause: error)
    }
    signatures = [Envelope.Signature(keyid: key.verifying.id, sig: signature.base64EncodedString())]
  }

  /// Reads an envelope. Nothing in it is believed before ``verified(by:)``.
  ///
  /// - Throws: ``DRCore/DRError`` with `malformedData`.
  public init(json: Data, object: String? = nil) throws {
    func refuse(_ what: String, _ cause: (any Error)? = nil) -> DRError {
      DRError(.malformedData, "this is no signed statement: \(what)", object: object, cause: cause)
    }
    let envelope: Envelope
    do {
      envelope = try JSONDecoder().decode(Envelope.self, from: json)
    } catch {
      throw refuse("it is no DSSE envelope", error)
    }
    guard envelope.payloadType == Self.payloadType else {
      throw refuse("its payload is '\(envelope.payloadType.prefix(80))'")
    }
    guard let payload = Data(base64Either: envelope.payload) else { throw refuse("its payload is no base64") }
    self.payload = payload
    signatures = envelope.signatures
  }

  /// What is signed: the payload and its type, each with its length before it, so that neither can be taken for the other.
  public static func encoded(_ payload: Data) -> Data {
    Data("DSSEv1 \(payloadType.utf8.count) \(payloadType) \(payload.count) ".utf8) + payload
  }

  /// The first signature, for stock tools.
  public var signature: Data? { signatures.first.flatMap { Data(base64Either: $0.sig) } }

  /// The payload, once a signature of this key was found to be right. The key is the caller's: what the envelope says of keys is a hint.
  ///
  /// - Throws: ``DRCore/DRError`` with `corruptData`.
  public func verified(by key: ReportVerifyingKey) throws -> Data {
    let bytes = Self.encoded(payload)
    guard
      signatures.contains(where: { signature in
        Data(base64Either: signature.sig).map { key.isValid($0, of: bytes) } ?? false
      })
    else {
      let names = signatures.map { $0.keyid?.prefix(16) ?? "an unnamed key" }.joined(separator: ", ")
      let isHinted = signatures.contains { $0.keyid == key.id }
      throw DRError(
        .corruptData,
        signatures.isEmpty
          ? "it is not signed"
          : "no signature is right for the key \(key.id.prefix(16)): it names \(names)"
            + (isHinted ? ", so what was signed was changed" : ""),
        advice: isHinted
          ? "do not rely on it: see who could write it" : "see that this is the key of who signs the reports")
    }
    return payload
  }

  /// Sorted keys, one line.
  ///
  /// - Throws: ``DRCore/DRError`` with `malformedData`.
  public func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return try encoder.encode(
        Envelope(
          payload: payload.base64EncodedString(), payloadType: Self.payloadType, signatures: signatures))
        + Data("\n".utf8)
    } catch {
      throw DRError(.malformedData, "the signed statement cannot be written", cause: error)
    }
  }
}

extension Data {
  /// Of either alphabet, as DSSE has it.
  fileprivate init?(base64Either text: String) {
    var plain = text.replacing("-", with: "+").replacing("_", with: "/")
    while plain.utf8.count % 4 != 0 { plain += "=" }
    self.init(base64Encoded: plain)
  }
}
