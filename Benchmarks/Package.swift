// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let core = Target.Dependency.product(name: "DRCore", package: "swift-disaster-recovery")
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
    // The library's own source files, linked: what they hold is of package access, so another package cannot import it.
    .target(name: "Kernels", swiftSettings: settings),
    .target(name: "CPrograms"),
    .target(name: "RowData", dependencies: [nioCore], swiftSettings: settings),
    .executableTarget(
      name: "dr-codec",
      dependencies: [
        "CPrograms", "RowData", core, nioCore, .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "DataPath",
      dependencies: ["Kernels", "RowData", core, nioCore, .product(name: "Benchmark", package: "benchmark")],
      path: "Benchmarks/DataPath",
      swiftSettings: settings,
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
  ]
)
