import DRCore
import Foundation
import Testing

struct ErrorTextTests {
  private struct Sentence: Error, CustomStringConvertible {
    var description: String
  }

  @Test("Advice is given once, at the end, the outermost first")
  func advice() {
    let inner = DRError(.noSpace, "the disk is full", advice: "free space.")
    #expect(
      "\(DRError(.sourceFailed, "the copy failed", cause: inner))"
        == "[source-failed] the copy failed; caused by: [no-space] the disk is full. What to do: free space.")
    #expect(
      "\(DRError(.sourceFailed, "the copy failed", advice: "try again", cause: inner))"
        == "[source-failed] the copy failed; caused by: [no-space] the disk is full. What to do: try again; free space")
    #expect(
      "\(DRError(.sourceFailed, "the copy failed", advice: "free space.", cause: inner))"
        == "[source-failed] the copy failed; caused by: [no-space] the disk is full. What to do: free space.")
  }

  @Test("The full stop of a text from elsewhere is not doubled")
  func fullStops() {
    let cause = Sentence(description: "The given data was not valid JSON.")
    #expect(
      "\(DRError(.malformedData, "it cannot be read", advice: "look at it", cause: cause))"
        == "[malformed-data] it cannot be read; caused by: The given data was not valid JSON. What to do: look at it")
    #expect(
      "\(DRError(.malformedData, "It cannot be read.", advice: "look at it", cause: cause))"
        == "[malformed-data] It cannot be read; caused by: The given data was not valid JSON. What to do: look at it")
    #expect("\(DRError(.malformedData, "It stays."))" == "[malformed-data] It stays.")
    #expect("\(DRError(.malformedData, "and so on...", advice: "x"))" == "[malformed-data] and so on... What to do: x")
    #expect(
      "\(Finding("check", .failure, subject: "s", evidence: "It is gone.", advice: "look"))"
        == "failure check s: It is gone. What to do: look")
  }
}
