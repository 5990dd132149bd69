import DRCore

/// How much of what is stored a verification reads.
public enum VerificationLevel: Hashable, Sendable, CustomStringConvertible {
  /// Presence, sizes, manifests, and the first bytes of each object.
  case metadata
  /// As `metadata`, and a part of the objects to their last byte.
  case sample(DataSample)
  /// As `metadata`, and every object to its last byte.
  case data

  public var description: String {
    switch self {
    case .metadata: "metadata"
    case .sample(let sample): "sample of \(sample)"
    case .data: "data"
    }
  }
}

/// Which part of the stored objects is read. The same seed chooses the same objects, as long as they are the same.
public struct DataSample: Hashable, Sendable, CustomStringConvertible {
  public enum Amount: Hashable, Sendable {
    /// The `part`th of `parts`, from 1: who asks for each once has read everything once, whatever the seed.
    case part(Int, of: Int)
    /// Of the number of objects, over 0 up to 100; at least one.
    case percent(Double)
    /// Stored bytes: objects until there are as many, at least one.
    case bytes(Int64)
  }

  public var amount: Amount
  public var seed: UInt64

  public init(_ amount: Amount, seed: UInt64 = 0) {
    self.amount = amount
    self.seed = seed
  }

  /// Reads `2/7`, `5%` or `500MB` (kB, MB, GB, TB of thousands; MiB and so on of 1,024).
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  public init(parsing text: String, seed: UInt64 = 0) throws {
    guard let amount = DataSample.amount(text) else {
      throw DRError(
        .invalidConfiguration, "'\(text.prefix(40))' is no part of the data",
        advice: "write 2/7 for the second of seven parts, 5% of the objects, or 500MB")
    }
    self.init(amount, seed: seed)
  }

  private static func amount(_ text: String) -> Amount? {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    if parts.count == 2, let part = parts[0], let all = parts[1] {
      return all > 0 && (1...all).contains(part) ? .part(part, of: all) : nil
    }
    if text.hasSuffix("%") {
      guard let percent = Double(text.dropLast()), percent > 0, percent <= 100 else { return nil }
      return .percent(percent)
    }
    let units: [(String, Double)] = [
      ("KiB", 1024), ("MiB", 1_048_576), ("GiB", 1_073_741_824), ("TiB", 1_099_511_627_776), ("kB", 1e3), ("MB", 1e6),
      ("GB", 1e9), ("TB", 1e12), ("B", 1),
    ]
    guard let unit = units.first(where: { text.hasSuffix($0.0) }), let number = Double(text.dropLast(unit.0.count)),
      number > 0, number * unit.1 < 1e18, number * unit.1 >= 1
    else { return nil }
    return .bytes(Int64(number * unit.1))
  }

  public var description: String {
    switch amount {
    case .part(let part, let all): "part \(part) of \(all)"
    case .percent(let percent): "\(percent.shortText) % by seed \(seed)"
    case .bytes(let bytes): "\(bytes) bytes by seed \(seed)"
    }
  }

  /// Which of the objects are read: their numbers.
  package func chosen(_ objects: [(name: String, size: Int64)]) -> Set<Int> {
    guard !objects.isEmpty else { return [] }
    if case .part(let part, let all) = amount {
      return Set(objects.indices.filter { DataSample.hash(objects[$0].name, 0) % UInt64(all) == UInt64(part - 1) })
    }
    // By a hash of the name, so that an object more or less changes nothing about the others.
    let order = objects.indices.map { (DataSample.hash(objects[$0].name, seed), $0) }.sorted { $0 < $1 }.map(\.1)
    switch amount {
    case .part: return []
    case .percent(let percent):
      return Set(order.prefix(max(1, Int((Double(objects.count) * percent / 100).rounded(.up)))))
    case .bytes(let bytes):
      var (taken, sum) = (Set<Int>(), Int64(0))
      for index in order where sum < bytes {
        taken.insert(index)
        sum += objects[index].size
      }
      return taken
    }
  }

  /// FNV-1a with the finaliser of SplitMix64: the same in every process, as Swift's own is not.
  private static func hash(_ text: String, _ seed: UInt64) -> UInt64 {
    var hash = 0xCBF2_9CE4_8422_2325 ^ (seed &* 0x9E37_79B9_7F4A_7C15)
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    hash = (hash ^ (hash >> 30)) &* 0xBF58_476D_1CE4_E5B9
    hash = (hash ^ (hash >> 27)) &* 0x94D0_49BB_1331_11EB
    return hash ^ (hash >> 31)
  }
}

extension Double {
  /// Without what is not needed: `10`, `2.5`.
  var shortText: String { self == rounded() && abs(self) < 1e15 ? "\(Int64(self))" : "\(self)" }
}
