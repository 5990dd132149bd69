import DRCore
import Foundation
import Testing

struct TimestampTests {
  @Test("A moment reads back as it was written, also on leap days and before 1970")
  func roundTrip() {
    var random = SystemRandomNumberGenerator()
    // The last: where a double counts microseconds only just.
    var microseconds: [Int64] = [0, -1, 951_782_400_000_000, 951_868_799_999_999, 4_422_922_831_686_566]
    // From the year 1600, for the calendar that writes them has another rule before 1582, to the year 9999.
    for _ in 0..<20_000 {
      microseconds.append(Int64.random(in: -11_676_096_000_000_000..<253_402_300_800_000_000, using: &random))
    }
    for moment in microseconds {
      let text = Timestamp.format(Date(timeIntervalSince1970: Double(moment) / 1e6))
      #expect(Timestamp.parse(text).map(Timestamp.format) == text)
    }
  }

  @Test(
    "What servers and people write is read",
    arguments: [
      ("2026-11-26T03:41:53Z", 1_795_664_513.0), ("2026-11-26T03:41:53.5Z", 1_795_664_513.5),
      ("2026-11-26 03:41:53.123456+00", 1_795_664_513.123456), ("2026-11-26 05:41:53+02", 1_795_664_513),
      ("2026-11-26T05:41:53 +02:00", 1_795_664_513), ("2026-11-25T22:11:53-0530", 1_795_664_513),
      ("2024-02-29T00:00:00Z", 1_709_164_800), ("2026-11-26T03:41Z", 1_795_664_460),
      ("2026-11-26T03:41:53.123456789Z", 1_795_664_513.123456789),
    ])
  func forms(text: String, seconds: Double) {
    #expect(Timestamp.parse(text)?.timeIntervalSince1970 == seconds)
  }

  @Test(
    "What is no moment is not read",
    arguments: [
      "", "2026", "2026-11-26", "2026-11-26T03:41:53", "2026-13-01T00:00:00Z", "2026-00-10T00:00:00Z",
      "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-11-26T24:00:00Z",
      "2026-11-26T03:60:00Z", "2026-11-26T03:41:61Z", "2026-11-26T03:41:53.Z", "2026-11-26T03:41:53.1234567890Z",
      "2026-11-26T03:41:53ZZ", "2026-11-26T03:41:53+2", "2026-11-26T03:41:53+02:", "+026-11-26T03:41:53Z",
      "٢٠٢٦-11-26T03:41:53Z", "0000-01-01T00:00:00Z",
    ])
  func refused(text: String) { #expect(Timestamp.parse(text) == nil) }
}
