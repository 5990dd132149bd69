import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

@Suite(.serialized) struct RedisClusterTests {
  private static let nodes = """
    07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,host slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1 4 connected
    67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922
    292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f ::1:30003@31003 master - 0 1426238318243 3 connected 10923-16383
    e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5459 5460

    """

  @Test func nodesAreRead() throws {
    let nodes = try RedisClusterNodes(Self.nodes)
    let masters = try nodes.masters()
    #expect(masters.map(\.port) == [30001, 30002, 30003] && masters[2].host == "::1")
    #expect(masters[0].slots == [0...5459, 5460...5460])
    for (from, to, what) in [
      ("10923-16383", "10923-16382", "16383 of 16384"),
      (
        "10923-16383", "10923-16383 [93->-67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1]",
        "slots move at ::1:30003: 93 to 127.0.0.1:30002"
      ),
      ("myself,master", "myself,master,fail?", "fails"),
    ] {
      let error: DRError = try #require(throws: DRError.self) {
        _ = try RedisClusterNodes(Self.nodes.replacing(from, with: to)).masters()
      }
      #expect(error.message.contains(what))
    }
    #expect(throws: DRError.self) { _ = try RedisClusterNodes("nonsense") }
    #expect(throws: DRError.self) {
      _ = try RedisClusterNodes(Self.nodes.replacing("10923-16383", with: "10923-99999"))
    }
  }

  /// All shards at one cut: a sum that every write keeps is kept by what is restored.
  @Test func aClusterAtOneMoment() async throws {
    var options = RedisFixture.options()
    options.clusterNodes = 3
    try await RedisFixture.withServer(options) { cluster in
      // A key in each shard.
      let keys = ["{0}", "{1}", "{2}", "{3}", "{4}", "{5}", "{6}", "{7}"]
      var place: [Int: String] = [:]
      for key in keys {
        let slot = Int(try await cluster.command("CLUSTER", "KEYSLOT", key).integer ?? 0)
        let shard = (0..<3).first { slot < ($0 + 1) * 16384 / 3 } ?? 2
        place[shard] = place[shard] ?? key
      }
      try #require(place.count == 3)
      let homes = (0..<3).map { place[$0] ?? "" }
      // One after the other, so that at every moment the first is as many as the last, or one more.
      let isOver = MutableBox(false)
      let writing = Task {
        var connections: [RedisConnection] = []
        for index in 0..<3 {
          connections.append(
            try await RedisConnection.connect(cluster.nodes[index].settings, logger: RedisFixture.logger))
        }
        var count = 0
        while !isOver.value {
          for index in 0..<3 { try await connections[index].command("INCR", homes[index] + "count") }
          count += 1
        }
        for connection in connections { await connection.close() }
        return count
      }
      try await Task.sleep(for: .milliseconds(300))
      try await RedisFixture.withRepository { repository, folder in
        let source = RedisClusterSnapshot(component: try RedisFixture.component(), node: cluster.settings)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        try await Task.sleep(for: .milliseconds(200))
        isOver.withLock { $0 = true }
        let written = try await writing.value
        #expect(
          manifest.artifacts.map(\.name)
            == (0..<3).map { "changes-\($0).aof" } + (0..<3).map { "config-\($0).json" }
            + (0..<3).map { "dump-\($0).rdb" } + (0..<3).map { "nodes-\($0).conf" })
        #expect(manifest.leftOut.count == 1 && manifest.leftOut[0].what.contains("ACL"))
        #expect(manifest.properties["shards"]?.array?.count == 3)
        let reader = repository.reader(for: manifest)
        // By file, shard by shard, into servers that are no cluster: what each of them holds.
        var counts: [Int64] = []
        for index in 0..<3 {
          let data = "\(folder)/node-\(index)"
          var restorer = RedisFileRestorer(layout: RedisDataLayout(folder: data, appendOnly: .folder))
          restorer.shard = index
          restorer.owner = cluster.user?.name
          let report = try await restorer.restoreFiles(from: reader, to: .latest, logger: RedisFixture.logger)
          #expect(
            report.position?.hasPrefix(manifest.properties["shards"]?.array?[index].object?["id"]?.string ?? "-")
              == true)
          let restored = try await RedisSandbox.prepare(
            RedisFixture.options(appendOnly: true), dataFolder: data, logger: RedisFixture.logger)
          try await RedisSandbox.with(restored) { restored in
            try await restored.start()
            counts.append(try await restored.command("GET", homes[index] + "count").integer ?? 0)
          }
          // A node that is started with its file is who it was.
          let id = manifest.properties["shards"]?.array?[index].object?["id"]?.string ?? ""
          let conf = try String(contentsOfFile: data + "/nodes.conf", encoding: .utf8)
          #expect(conf.split(separator: "\n").contains { $0.hasPrefix(id) && $0.contains("myself") })
          #expect(conf.contains("vars currentEpoch"))
        }
        #expect(counts[0] > 10 && counts[0] < written && counts[0] >= counts[1] && counts[1] >= counts[2])
        #expect(counts[0] - counts[2] <= 1, "\(counts)")

        // While a slot moves, nothing is captured.
        let slot = try await cluster.command("CLUSTER", "KEYSLOT", homes[0]).integer ?? 0
        let other = try await cluster.command("CLUSTER", "MYID", node: 1).text ?? ""
        try await cluster.command("CLUSTER", "SETSLOT", "\(slot)", "MIGRATING", other)
        let error = await #expect(throws: DRError.self) {
          try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        }
        #expect(error?.message.contains("slots move") == true)
        try await cluster.command("CLUSTER", "SETSLOT", "\(slot)", "STABLE")
        // One that moves between two others, which only those two know of: opened before, and in the midst of the capture.
        let moving = try await cluster.command("CLUSTER", "KEYSLOT", homes[1]).integer ?? 0
        let third = try await cluster.command("CLUSTER", "MYID", node: 2).text ?? ""
        try await cluster.command("CLUSTER", "SETSLOT", "\(moving)", "MIGRATING", third, node: 1)
        let ports = try (1...2).map { try #require(cluster.nodes[$0].port) }
        let before = await #expect(throws: DRError.self) {
          try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        }
        let from = "slots move at 127.0.0.1:\(ports[0]): \(moving) to 127.0.0.1:\(ports[1])"
        #expect(before?.message.contains(from) == true, "\(String(describing: before))")
        try await cluster.command("CLUSTER", "SETSLOT", "\(moving)", "STABLE", node: 1)
        try await cluster.command("CLUSTER", "SETSLOT", "\(moving)", "IMPORTING", other, node: 2)
        let importing = await #expect(throws: DRError.self) {
          try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        }
        let into = "slots move at 127.0.0.1:\(ports[1]): \(moving) from 127.0.0.1:\(ports[0])"
        #expect(importing?.message.contains(into) == true, "\(String(describing: importing))")
        try await cluster.command("CLUSTER", "SETSLOT", "\(moving)", "STABLE", node: 2)
        let tier = DyingTier(repository.tier)
        tier.dawdle(.seconds(2), after: 1, count: 1)
        let slow = Task {
          try await Repository(tier: tier).backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        }
        try await RedisFixture.eventually("the capture") {
          try await cluster.command("INFO", "replication", node: 1).text?.contains("connected_slaves:1") == true
        }
        try await cluster.command("CLUSTER", "SETSLOT", "\(moving)", "MIGRATING", third, node: 1)
        let captured = await slow.result
        let after = #expect(throws: DRError.self) { _ = try captured.get() }
        #expect(after?.message.contains(from) == true, "\(String(describing: after))")
        try await cluster.command("CLUSTER", "SETSLOT", "\(moving)", "STABLE", node: 1)
        _ = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
      }
    }
  }

  /// Wiped and restored by file, the cluster is whole again, with the same nodes; key by key, into another server.
  @Test func aClusterComesBack() async throws {
    var options = RedisFixture.options(appendOnly: true)
    options.clusterNodes = 3
    try await RedisFixture.withServer(options) { cluster in
      func each(_ command: String...) async throws -> [RESPValue] {
        var answers: [RESPValue] = []
        for node in cluster.nodes {
          answers.append(
            try await RedisConnection.withConnection(node.settings, logger: RedisFixture.logger) {
              try await $0.command(command)
            })
        }
        return answers
      }
      let script = "for i = 1, 200 do redis.call('SET', '{' .. KEYS[1] .. '}' .. i, i) end"
      for tag in ["a", "b", "c", "d", "e", "f"] {
        let slot = Int(try await cluster.command("CLUSTER", "KEYSLOT", tag).integer ?? 0)
        let node = (0..<3).first { slot < ($0 + 1) * 16384 / 3 } ?? 2
        try await cluster.command("EVAL", script, "1", tag, node: node)
      }
      let digests = try await each("DEBUG", "DIGEST")
      let names = try await each("CLUSTER", "MYID")
      let sizes = try await each("DBSIZE").compactMap(\.integer)
      #expect(sizes.reduce(0, +) == 1200 && sizes.allSatisfy { $0 > 0 })
      try await RedisFixture.withRepository { repository, folder in
        let component = try RedisFixture.component()
        let manifest = try await repository.backUp(
          RedisClusterSnapshot(component: component, node: cluster.settings), cadence: .hourly,
          logger: RedisFixture.logger)
        // One node alone would pass for all of it, and its stream too.
        let single = await #expect(throws: DRError.self) {
          try await repository.backUp(
            RedisSnapshot(component: component, server: cluster.settings), cadence: .hourly,
            logger: RedisFixture.logger)
        }
        #expect(single?.code == .invalidConfiguration && single?.advice?.contains("dr-redis backup --cluster") == true)
        let followed = await #expect(throws: DRError.self) {
          try await RedisChangeLog(
            archive: try RedisFixture.archive(repository), server: cluster.settings, logger: RedisFixture.logger
          ).follow(logger: RedisFixture.logger) { _ in }
        }
        #expect(followed?.code == .invalidConfiguration && followed?.message.contains("node of a cluster") == true)
        #expect(try await repository.catalog(of: component).backups.map(\.id) == [manifest.id])

        let reader = repository.reader(for: manifest)
        let layout = RedisDataLayout(folder: folder + "/one", appendOnly: .folder)
        let which = await #expect(throws: DRError.self) {
          try await RedisFileRestorer(layout: layout).restoreFiles(
            from: reader, to: .latest, logger: RedisFixture.logger)
        }
        #expect(which?.message.contains("3 shards") == true && !FileManager.default.fileExists(atPath: layout.folder))

        try await cluster.kill()
        var leftOut: [Int] = []
        for (index, node) in cluster.nodes.enumerated() {
          for name in try FileManager.default.contentsOfDirectory(atPath: node.dataFolder) {
            try FileManager.default.removeItem(atPath: "\(node.dataFolder)/\(name)")
          }
          var restorer = RedisFileRestorer(layout: RedisDataLayout(folder: node.dataFolder, appendOnly: .folder))
          restorer.shard = index
          leftOut.append(
            try await restorer.restoreFiles(from: reader, to: .latest, logger: RedisFixture.logger).commands)
        }
        try await cluster.start()
        #expect(try await each("DEBUG", "DIGEST") == digests)
        #expect(try await each("CLUSTER", "MYID") == names)
        #expect(try await cluster.command("CLUSTER", "INFO").text?.contains("cluster_slots_ok:16384") == true)

        try await RedisFixture.withServer { other in
          let online = await #expect(throws: DRError.self) {
            _ = try await RedisOnlineRestorer(server: other.settings).restore(
              from: reader, to: .latest, logger: RedisFixture.logger)
          }
          #expect(online?.code == .invalidConfiguration && online?.message.contains("cluster") == true)
          let report = try await RedisKeyRestorer(server: other.settings).restoreKeys(
            from: reader, logger: RedisFixture.logger)
          #expect(report.restored == 1200 && report.failed == 0 && report.changesLeftOut == leftOut)
          #expect(try await other.command("DBSIZE").integer == 1200)
        }
      }
    }
  }

  @Test func aSentinelNamesTheMaster() async throws {
    var options = RedisFixture.options()
    options.listensOnLoopback = true
    try await RedisFixture.withServer(options) { master in
      let port = try #require(master.nodes[0].port)
      try await withTemporaryFolder { folder in
        let (file, socket) = (folder + "/sentinel.conf", folder + "/sentinel.sock")
        try """
        port 0
        unixsocket \(socket)
        sentinel monitor cache 127.0.0.1 \(port) 1
        """.write(toFile: file, atomically: true, encoding: .utf8)
        let sentinel = Task {
          // Ended by its time limit or by the command below.
          try await runCommand(master.installation.server, [file, "--sentinel"], timeLimit: .seconds(60))
        }
        let settings = RedisConnectionSettings(socket: socket)
        try await RedisFixture.eventually("the Sentinel") {
          (try? await RedisConnection.withConnection(settings, logger: RedisFixture.logger) {
            try await $0.command("PING")
          }) == .simple("PONG")
        }
        let nobody = RedisConnectionSettings(socket: folder + "/nobody.sock")
        let found = try await RedisSentinel(sentinels: [nobody, settings], masterName: "cache")
          .master(RedisConnectionSettings(), logger: RedisFixture.logger)
        #expect(found.address == .tcp(host: "127.0.0.1", port: port))
        let error = await #expect(throws: DRError.self) {
          _ = try await RedisSentinel(sentinels: [settings], masterName: "other")
            .master(RedisConnectionSettings(), logger: RedisFixture.logger)
        }
        #expect(error?.code == .sourceFailed)
        let connection = try await RedisConnection.connect(settings, logger: RedisFixture.logger)
        _ = try? await connection.send(["SHUTDOWN"])
        await connection.close()
        _ = try await sentinel.value
      }
    }
  }
}
