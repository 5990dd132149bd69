import Crypto
import DRCore
import DRStorage
import Foundation
import NIOCore
import Testing

/// Against what AWS publishes: the examples of the S3 API reference, and cases of the signing test suite of the AWS
/// Common Runtime (those without normalisation, which S3 does not do). Real servers judge the rest.
struct SigV4Tests {
  /// An example of "Authenticating Requests: Using the Authorization Header".
  struct Example: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var method = "GET"
    var path = "/"
    var query: [(String, String)] = []
    var headers: [(String, String)] = []
    var body = ""
    var signedHeaders: String
    var signature: String
  }

  static let examples = [
    Example(
      testDescription: "GET Object", path: "/test.txt", headers: [("Range", "bytes=0-9")],
      signedHeaders: "host;range;x-amz-content-sha256;x-amz-date",
      signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
    Example(
      testDescription: "PUT Object", method: "PUT", path: "/test$file.text",
      headers: [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
      body: "Welcome to Amazon S3.",
      signedHeaders: "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
      signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
    Example(
      testDescription: "GET Bucket Lifecycle", query: [("lifecycle", "")],
      signedHeaders: "host;x-amz-content-sha256;x-amz-date",
      signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    Example(
      testDescription: "GET Bucket (List Objects)", query: [("max-keys", "2"), ("prefix", "J")],
      signedHeaders: "host;x-amz-content-sha256;x-amz-date",
      signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
  ]

  private static let documented = S3Credentials(
    accessKeyID: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")

  private static func moment(_ text: String) throws -> Date { try #require(Timestamp.parse(text)) }

  @Test("The S3 reference's examples", arguments: examples)
  func documentedExample(example: Example) throws {
    let hash = StreamDigest.hex(ByteBuffer(string: example.body))
    let request = SigV4.Request(
      method: example.method, path: example.path, query: example.query,
      headers: example.headers + [
        ("host", "examplebucket.s3.amazonaws.com"), ("x-amz-content-sha256", hash), ("x-amz-date", "20130524T000000Z"),
      ], payloadHash: hash)
    let signer = SigV4(credentials: Self.documented, region: "us-east-1")
    #expect(
      signer.authorization(for: request, at: try Self.moment("2013-05-24T00:00:00Z"))
        == "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        + "SignedHeaders=\(example.signedHeaders), Signature=\(example.signature)")
  }

  @Test("The S3 reference's presigned URL")
  func presigned() throws {
    let request = SigV4.Request(
      method: "GET", path: "/test.txt", headers: [("host", "examplebucket.s3.amazonaws.com")],
      payloadHash: SigV4.unsignedPayload)
    let query = SigV4(credentials: Self.documented, region: "us-east-1").presignedQuery(
      for: request, at: try Self.moment("2013-05-24T00:00:00Z"), validFor: 86400)
    #expect(
      query == "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        + "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
        + "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        + "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
  }

  /// A case of the Common Runtime's suite: method GET, host `example.amazonaws.com`, service `service`.
  struct Case: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var path = "/"
    var query: [(String, String)] = []
    var headers: [(String, String)] = []
    var token: String?
    var signature: String
  }

  static let letters = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

  static let cases = [
    Case(
      testDescription: "slashes are kept", path: "//example//",
      signature: "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"),
    Case(
      testDescription: "dots are kept", path: "/./",
      signature: "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145"),
    Case(
      testDescription: "a space", path: "/example space/",
      signature: "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
    Case(
      testDescription: "UTF-8 in the path", path: "/ሴ",
      signature: "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    Case(
      testDescription: "UTF-8 in the query", query: [("ሴ", "bar")],
      signature: "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
    Case(
      testDescription: "unreserved letters", query: [(letters, letters)],
      signature: "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
    Case(
      testDescription: "the query is sorted", query: [("Param2", "value2"), ("Param1", "value1")],
      signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    Case(
      testDescription: "header values are trimmed",
      headers: [("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
      signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
    Case(
      testDescription: "a session token", token: "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
      signature: "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
  ]

  @Test("The Common Runtime's cases", arguments: cases)
  func publishedCase(one: Case) throws {
    var headers = [("Host", "example.amazonaws.com"), ("X-Amz-Date", "20150830T123600Z")] + one.headers
    if let token = one.token { headers.append(("X-Amz-Security-Token", token)) }
    let signer = SigV4(
      credentials: S3Credentials(
        accessKeyID: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", sessionToken: one.token
      ),
      region: "us-east-1", service: "service")
    let request = SigV4.Request(
      method: "GET", path: one.path, query: one.query, headers: headers, payloadHash: SigV4.emptyPayload)
    let header = signer.authorization(for: request, at: try Self.moment("2015-08-30T12:36:00Z"))
    #expect(header.hasSuffix(", Signature=\(one.signature)"), "\(header)")
  }

  @Test("Parts suffice for 5 TiB, whatever was expected, and stay small for what is small")
  func parts() {
    for equal in [false, true] {
      for least in [5 << 20, 8 << 20, 64 << 20] {
        for expected in [nil, 0, 1, 100 << 30, 1 << 40, 5 << 40] as [Int64?] {
          let plan = PartPlan(expected: expected, least: least, equalParts: equal)
          var (total, largest) = (Int64(0), 0)
          for number in 1...PartPlan.most {
            let size = plan.size(ofPart: number)
            #expect(size >= least && size <= PartPlan.largest)
            #expect(plan.concurrency(ofPart: number, most: 4) >= 1)
            total += Int64(size)
            largest = max(largest, size)
          }
          if !equal { #expect(total >= PartPlan.largestObject, "\(least) \(String(describing: expected))") }
          #expect(total >= expected ?? 0)
          if equal, expected == 5 << 40 { #expect(largest <= 600 << 20) }
        }
        #expect(PartPlan(expected: 1 << 30, least: least, equalParts: equal).size(ofPart: 1) == least)
      }
    }
  }
}

/// What servers answer, as text.
struct S3DocumentTests {
  @Test("An answer is read, whatever its prefix, entities and CDATA")
  func reading() throws {
    let text = """
      <?xml version="1.0"?><s3:Error xmlns:s3="x"><Code>NoSuchKey</Code><Message>a &lt;b&gt; &amp; <![CDATA[<c>]]></Message>
      </s3:Error>
      """
    let root = try XMLReader.read(ByteBuffer(string: text))
    #expect(root.name == "Error" && root.text("Code") == "NoSuchKey" && root.text("Message") == "a <b> & <c>")
    let written = XMLElement("Delete", children: [XMLElement("Key", text: "a<&>\"\r é")])
    #expect(try XMLReader.read(ByteBuffer(string: written.document)) == written)
  }

  @Test("What is hostile or broken is refused", .timeLimit(.minutes(1)))
  func refusing() {
    let bomb = """
      <?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><x>&b;</x>
      """
    let file = "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><x>&f;</x>"
    let deep = String(repeating: "<a>", count: 5000) + String(repeating: "</a>", count: 5000)
    let wide = "<a>" + String(repeating: "<b/>", count: 200_000) + "</a>"
    for text in [bomb, file, deep, wide, "", "<a>", "<a></b>", "<html><br></html>", "{\"a\": 1}"] {
      #expect(throws: DRError.self) { try XMLReader.read(ByteBuffer(string: text)) }
    }
  }
}
