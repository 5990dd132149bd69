// swift-tools-version: 6.2
import PackageDescription

// One list for every target: a warning is an error, an existential says `any`, an import is internal unless it is
// part of a target's own API.
let settings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let httpClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let cryptoExtras = Target.Dependency.product(name: "CryptoExtras", package: "swift-crypto")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")
let nioFoundation = Target.Dependency.product(name: "NIOFoundationCompat", package: "swift-nio")
let x509 = Target.Dependency.product(name: "X509", package: "swift-certificates")
let asn1 = Target.Dependency.product(name: "SwiftASN1", package: "swift-asn1")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
  name: "swift-disaster-recovery",
  platforms: [.macOS(.v15)],
  products: [
    .library(name: "DRCore", targets: ["DRCore"]),
    .library(name: "DRStorage", targets: ["DRStorage"]),
    .library(name: "DRPostgres", targets: ["DRPostgres"]),
    .library(name: "DRRedis", targets: ["DRRedis"]),
    .library(name: "DRRabbitMQ", targets: ["DRRabbitMQ"]),
    .library(name: "DRFiles", targets: ["DRFiles"]),
    .library(name: "DRVerify", targets: ["DRVerify"]),
    .library(name: "DRPlan", targets: ["DRPlan"]),
    .executable(name: "dr-drill", targets: ["dr-drill"]),
    .executable(name: "dr-plan", targets: ["dr-plan"]),
    .executable(name: "dr-backup", targets: ["dr-backup"]),
    .executable(name: "dr-restore", targets: ["dr-restore"]),
    .executable(name: "dr-status", targets: ["dr-status"]),
    .executable(name: "dr-failover", targets: ["dr-failover"]),
    .executable(name: "dr-verify", targets: ["dr-verify"]),
    .executable(name: "dr-postgres", targets: ["dr-postgres"]),
    .executable(name: "dr-redis", targets: ["dr-redis"]),
    .executable(name: "dr-rabbitmq", targets: ["dr-rabbitmq"]),
    .executable(name: "dr-files", targets: ["dr-files"]),
    .executable(name: "dr-wal", targets: ["dr-wal"]),
    .executable(name: "dr-tier", targets: ["dr-tier"]),
    .executable(name: "dr-repository", targets: ["dr-repository"]),
    .executable(name: "dr-tier-check", targets: ["dr-tier-check"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.34.0"),
    .package(url: "https://github.com/swift-server/async-http-client.git", from: "1.37.0"),
    .package(url: "https://github.com/apple/swift-crypto.git", from: "4.5.0"),
    .package(url: "https://github.com/apple/swift-certificates.git", from: "1.21.0"),
    .package(url: "https://github.com/apple/swift-asn1.git", from: "1.7.0"),
    .package(url: "https://github.com/apple/swift-log.git", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-metrics.git", from: "2.13.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
    .package(url: "https://github.com/swiftlang/swift-subprocess.git", from: "1.0.0"),
    .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
  ],
  targets: [
    // System libraries
    .systemLibrary(
      name: "CLibPQ", pkgConfig: "libpq", providers: [.brew(["libpq"]), .apt(["libpq-dev", "libssl-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.brew(["zlib"]), .apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.brew(["zstd"]), .apt(["libzstd-dev"])]),
    .systemLibrary(
      name: "CDeflate", pkgConfig: "libdeflate", providers: [.brew(["libdeflate"]), .apt(["libdeflate-dev"])]),
    .systemLibrary(
      name: "CRabbitMQ", pkgConfig: "librabbitmq", providers: [.brew(["rabbitmq-c"]), .apt(["librabbitmq-dev"])]),

    // Kernels that have no form in Swift
    .target(name: "CSHA256"),
    .target(name: "CCarryless"),

    // The house, from the ground up
    .target(
      name: "DRCore",
      dependencies: ["CSHA256", "CZlib", "CZstd", "CDeflate", nioCore, crypto, cryptoExtras, logging],
      resources: [.embedInCode("Manifest/Schema/backup-manifest.schema.json")],
      swiftSettings: settings),
    .target(
      name: "DRStorage",
      dependencies: ["DRCore", nioCore, nioPosix, nioHTTP1, nioSSL, httpClient, crypto, logging],
      swiftSettings: settings),
    .target(name: "DRSandbox", dependencies: ["DRCore", nioCore, logging, subprocess], swiftSettings: settings),
    .target(
      name: "DRPostgres",
      dependencies: ["DRCore", "DRStorage", "DRSandbox", "CLibPQ", nioCore, logging, metrics, lifecycle],
      swiftSettings: settings),
    .target(
      name: "DRRedis",
      dependencies: [
        "DRCore", "DRStorage", "DRSandbox", "CCarryless", nioCore, nioPosix, nioTLS, nioSSL, logging, metrics,
        lifecycle,
      ],
      swiftSettings: settings),
    .target(
      name: "DRRabbitMQ",
      dependencies: [
        "DRCore", "DRStorage", "DRSandbox", "CRabbitMQ", nioCore, nioHTTP1, nioFoundation, nioSSL, httpClient,
        logging, lifecycle,
      ],
      swiftSettings: settings),
    .target(
      name: "DRFiles", dependencies: ["DRCore", "DRStorage", "DRSandbox", nioCore, logging, lifecycle, x509, asn1],
      swiftSettings: settings),
    .target(name: "DRVerify", dependencies: ["DRCore", "DRStorage", nioCore, logging], swiftSettings: settings),
    .target(
      name: "DRPlan",
      dependencies: [
        "DRCore", "DRStorage", "DRSandbox", "DRVerify", nioCore, nioPosix, httpClient, crypto, logging, metrics,
        lifecycle,
      ],
      resources: [.embedInCode("Evidence/Schema/run-report.schema.json")],
      swiftSettings: settings),

    // Examples: thin, they compose the rest
    .target(name: "CAllocator", path: "Examples/CAllocator"),
    .target(
      name: "ExampleSupport",
      dependencies: ["CAllocator", "DRCore", "DRStorage", "DRPostgres", "DRVerify", logging, arguments],
      path: "Examples/ExampleSupport", swiftSettings: settings),
    .executableTarget(
      name: "dr-tier-check",
      dependencies: ["ExampleSupport", "DRCore", "DRStorage", "DRVerify", logging, arguments],
      path: "Examples/dr-tier-check", swiftSettings: settings),
    .executableTarget(
      name: "dr-repository", dependencies: ["ExampleSupport", "DRCore", "DRStorage", "DRFiles", logging, arguments],
      path: "Examples/dr-repository", swiftSettings: settings),
    .executableTarget(
      name: "dr-plan",
      dependencies: [
        "PlatformSupport", "ExampleSupport", "DRCore", "DRStorage", "DRPlan", logging, lifecycle, arguments,
      ],
      path: "Examples/dr-plan", swiftSettings: settings),
    .target(
      name: "PlatformSupport",
      dependencies: ["ExampleSupport", "DRCore", "DRStorage", "DRPlan", logging, arguments],
      path: "Examples/PlatformSupport", swiftSettings: settings),
    .executableTarget(
      name: "dr-backup",
      dependencies: [
        "PlatformSupport", "ExampleSupport", "DRCore", "DRStorage", "DRSandbox", "DRPlan", logging, lifecycle,
        arguments,
      ],
      path: "Examples/dr-backup", swiftSettings: settings),
    .executableTarget(
      name: "dr-status", dependencies: ["PlatformSupport", "ExampleSupport", "DRCore", "DRPlan", arguments],
      path: "Examples/dr-status", swiftSettings: settings),
    .executableTarget(
      name: "dr-restore", dependencies: ["PlatformSupport", "ExampleSupport", "DRCore", "DRPlan", arguments],
      path: "Examples/dr-restore", swiftSettings: settings),
    .executableTarget(
      name: "dr-failover", dependencies: ["PlatformSupport", "ExampleSupport", "DRCore", "DRPlan", arguments],
      path: "Examples/dr-failover", swiftSettings: settings),
    .executableTarget(
      name: "dr-wal", dependencies: ["ExampleSupport", "DRCore", "DRStorage", "DRPostgres", logging, arguments],
      path: "Examples/dr-wal", swiftSettings: settings),
    .executableTarget(
      name: "dr-tier", dependencies: ["ExampleSupport", "DRCore", "DRStorage", nioCore, arguments],
      path: "Examples/dr-tier", swiftSettings: settings),
    .executableTarget(
      name: "dr-postgres",
      dependencies: [
        "ExampleSupport", "DRCore", "DRStorage", "DRPostgres", "DRVerify", logging, lifecycle, arguments,
      ],
      path: "Examples/dr-postgres", swiftSettings: settings),
    .executableTarget(
      name: "dr-redis",
      dependencies: [
        "ExampleSupport", "DRCore", "DRStorage", "DRRedis", "DRVerify", logging, lifecycle, arguments,
      ],
      path: "Examples/dr-redis", swiftSettings: settings),
    .executableTarget(
      name: "dr-rabbitmq",
      dependencies: ["ExampleSupport", "DRCore", "DRStorage", "DRRabbitMQ", nioCore, logging, lifecycle, arguments],
      path: "Examples/dr-rabbitmq", swiftSettings: settings),
    .executableTarget(
      name: "dr-files",
      dependencies: ["ExampleSupport", "DRCore", "DRStorage", "DRFiles", logging, lifecycle, arguments],
      path: "Examples/dr-files", swiftSettings: settings),
    .executableTarget(
      name: "dr-verify",
      dependencies: [
        "PlatformSupport", "ExampleSupport", "DRCore", "DRStorage", "DRSandbox", "DRPostgres", "DRRedis", "DRRabbitMQ",
        "DRVerify", "DRPlan", nioCore, logging, arguments,
      ],
      path: "Examples/dr-verify", swiftSettings: settings),
    .executableTarget(
      name: "dr-drill",
      dependencies: [
        "PlatformSupport", "ExampleSupport", "DRCore", "DRStorage", "DRSandbox", "DRPostgres", "DRRedis", "DRRabbitMQ",
        "DRFiles", "DRVerify", "DRPlan",
        nioCore, crypto, x509, asn1, logging, lifecycle, arguments,
      ],
      path: "Examples/dr-drill", swiftSettings: settings),

    // Tests
    .target(
      name: "DRTestSupport",
      dependencies: ["DRCore", "DRStorage", nioCore, nioPosix, nioHTTP1, httpClient, logging, subprocess],
      path: "Tests/DRTestSupport", swiftSettings: settings),
    // A process for tests to kill.
    .executableTarget(
      name: "storage-worker",
      dependencies: ["ExampleSupport", "DRCore", "DRStorage", "DRTestSupport", nioCore, logging],
      path: "Tests/StorageWorker", swiftSettings: settings),
    .testTarget(
      name: "DRCoreTests", dependencies: ["DRCore", "DRTestSupport", nioCore, crypto], swiftSettings: settings),
    .testTarget(
      name: "DRStorageTests",
      dependencies: [
        "DRStorage", "DRVerify", "DRCore", "DRTestSupport", nioCore, nioPosix, nioHTTP1, httpClient, crypto, logging,
        "dr-repository",
        "storage-worker",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "DRPostgresTests",
      dependencies: [
        "DRPostgres", "DRSandbox", "DRStorage", "DRVerify", "DRCore", "DRTestSupport", nioCore, logging, lifecycle,
      ],
      swiftSettings: settings),
    .testTarget(
      name: "DRRedisTests",
      dependencies: ["DRRedis", "DRStorage", "DRCore", "DRTestSupport", nioCore, nioPosix, logging, lifecycle],
      swiftSettings: settings),
    .testTarget(
      name: "DRRabbitMQTests",
      dependencies: [
        "DRRabbitMQ", "DRSandbox", "DRStorage", "DRVerify", "DRCore", "DRTestSupport", nioCore, nioPosix, logging,
        lifecycle,
      ],
      swiftSettings: settings),
    .testTarget(
      name: "DRFilesTests",
      dependencies: ["DRFiles", "DRStorage", "DRCore", "DRTestSupport", nioCore, logging, "dr-files"],
      swiftSettings: settings),
    .testTarget(
      name: "DRVerifyTests", dependencies: ["DRVerify", "DRStorage", "DRCore", "DRTestSupport", nioCore, logging],
      swiftSettings: settings),
    .testTarget(
      name: "DRPlanTests",
      dependencies: [
        "DRPlan", "DRVerify", "DRStorage", "DRCore", "DRTestSupport", nioCore, nioPosix, nioHTTP1, logging, "dr-plan",
        "dr-verify",
      ],
      exclude: ["croniter-answers.json", "make-croniter-answers.py"], swiftSettings: settings),
    .testTarget(
      name: "ExampleTests",
      dependencies: [
        "ExampleSupport", "DRFiles", "DRPlan", "DRPostgres", "DRRabbitMQ", "DRRedis", "DRSandbox", "DRStorage",
        "DRCore", "DRTestSupport",
        nioCore, logging, "dr-backup", "dr-drill", "dr-failover", "dr-files", "dr-plan", "dr-postgres", "dr-rabbitmq",
        "dr-redis", "dr-repository", "dr-restore", "dr-status", "dr-tier", "dr-tier-check", "dr-verify",
        "dr-wal",
      ],
      swiftSettings: settings),
  ]
)
