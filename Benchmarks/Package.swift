// swift-tools-version: 6.2
import Foundation
import PackageDescription

// Kernels such as the page checksum are of package access and no concern of the library's users. This package is a part
// of the project, so it shares the name under which SwiftPM compiled the package above: that of its folder.
let house = URL(fileURLWithPath: Context.packageDirectory).deletingLastPathComponent().lastPathComponent.lowercased()
let houseName = String(house.map { $0.isLetter || $0.isNumber ? $0 : "_" })

let settings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let core = Target.Dependency.product(name: "DRCore", package: "swift-disaster-recovery")
let postgres = Target.Dependency.product(name: "DRPostgres", package: "swift-disaster-recovery")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")

let package = Package(
  name: "Benchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "swift-disaster-recovery", path: ".."),
    // Without its traits: no allocator or runtime is put under the code that is measured.
    .package(url: "https://github.com/ordo-one/benchmark.git", from: "1.38.1", traits: []),
    .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
  ],
  targets: [
    .target(name: "RowData", dependencies: [nioCore], swiftSettings: settings),
    .executableTarget(
      name: "dr-codec",
      dependencies: [
        "RowData", core, nioCore, .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "DataPath",
      dependencies: ["RowData", core, postgres, nioCore, .product(name: "Benchmark", package: "benchmark")],
      path: "Benchmarks/DataPath",
      swiftSettings: settings + [.unsafeFlags(["-package-name", houseName])],
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
  ]
)
