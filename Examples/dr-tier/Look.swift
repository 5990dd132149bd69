import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport
import Foundation

/// Lists objects.
struct ListObjects: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists objects: bytes, class, key.")

  @OptionGroup var tier: TierArguments
  @Argument(help: "What the keys start with.")
  var prefix = ""

  func run() async throws {
    try await reporting {
      let tier = try await tier.open(.reading)
      var (after, isEmpty) = (ObjectKey?.none, true)
      repeat {
        let page = try await tier.list(prefix: prefix, after: after, limit: 1000)
        for object in page.objects {
          print("\(object.size)\t\(object.storageClass?.rawValue ?? "-")\t\(object.key)")
        }
        if !page.objects.isEmpty { isEmpty = false }
        after = page.next
      } while after != nil
      if isEmpty { FileHandle.standardError.write(Data((nothing(under: prefix, of: tier) + "\n").utf8)) }
    }
  }
}

/// Has archived objects made readable.
struct Thaw: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Requests archived objects to be made readable, and waits until they are.",
    discussion:
      "Glacier Flexible Retrieval takes minutes (expedited), 3-5 h or 5-12 h (bulk); Deep Archive 12 h or 48 h.")

  @OptionGroup var tier: TierArguments
  @Argument(help: "Keys; or with a slash at their end folders, '/' for everything.")
  var keys: [String]
  @Option(parsing: .unconditional, help: "For how many days they stay readable.")
  var days = 7
  @Option(help: "expedited, standard or bulk.")
  var speed = "standard"
  @Flag(help: "Return once the requests are taken.")
  var noWait = false
  @Option(parsing: .unconditional, help: "Give up waiting after so many hours.")
  var hours = 72

  func validate() throws {
    try allow("--days", days, 1...36_500)
    try allow("--hours", hours, 1...8760)
  }

  func run() async throws {
    try await reporting {
      guard let speed = ThawSpeed(rawValue: speed) else {
        throw ValidationError("'\(speed.prefix(40))' is no speed: expedited, standard or bulk")
      }
      let tier = try await tier.open(.unconditional)
      var wanted: [ObjectKey] = []
      for key in keys {
        if key.hasSuffix("/") {
          let found = try await tier.listAll(prefix: key == "/" ? "" : key).map(\.key)
          if found.isEmpty { throw DRError(.objectNotFound, nothing(under: key, of: tier)) }
          wanted += found
        } else {
          wanted.append(try ObjectKey(key))
        }
      }
      let failures = try await tier.thaw(wanted, days: days, speed: speed)
      for (_, error) in failures.sorted(by: { $0.key < $1.key }) {
        FileHandle.standardError.write(Data("error: \(error)\n".utf8))
      }
      if !failures.isEmpty { throw ExitCode(2) }
      print("\(wanted.count) requested")
      if noWait { return }
      try await tier.waitUntilReadable(wanted, limit: .seconds(hours * 3600)) { readable, all in
        FileHandle.standardError.write(Data("\(readable) of \(all) readable\n".utf8))
      }
    }
  }
}

/// Says what a tier can do.
struct Features: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what a tier can do, having tried it.",
    discussion:
      "For a bucket as JSON, to be kept in the field s3.features of a configuration: then it is not tried again.")

  @OptionGroup var tier: TierArguments

  func run() async throws {
    try await reporting {
      let tier = try await tier.open()
      if let tier = tier as? S3Tier {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        print(String(decoding: try encoder.encode(tier.features), as: UTF8.self))
      } else {
        for (capability, name) in TierCapabilities.named {
          print("\(name): \(tier.capabilities.contains(capability) ? "yes" : "no")")
        }
      }
    }
  }
}
