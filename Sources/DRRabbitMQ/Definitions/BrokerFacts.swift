package import DRCore
import Foundation
package import NIOCore

/// What a broker is, beside its definitions: the artifact `broker.json`. It holds no secret.
package struct BrokerFacts: Codable, Hashable, Sendable {
  package struct VHost: Codable, Hashable, Sendable {
    package var name: String
    package var description: String?
    package var tags: [String]?
    package var defaultQueueType: String?
  }

  package struct Node: Codable, Hashable, Sendable {
    package var name: String
    package var running: Bool
    package var enabledPlugins: [String]
  }

  package var clusterName: String
  package var rabbitMQVersion: String
  package var erlangVersion: String?
  package var nodes: [Node]
  /// The names of those that are enabled.
  package var featureFlags: [String]
  package var exchangeTypes: [String]
  package var vhosts: [VHost]
  /// Of the cluster: what its definitions call `internal_cluster_id`.
  package var clusterID: String?

  /// - Throws: As ``ManagementAPI``; `malformedData`.
  package init(_ api: ManagementAPI, definitions: JSONValue? = nil) async throws {
    let overview = try await api.get("overview").object ?? [:]
    guard let version = overview["rabbitmq_version"]?.string else {
      throw DRError(.malformedData, "the broker does not say which version it is", object: "overview")
    }
    rabbitMQVersion = version
    erlangVersion = overview["erlang_version"]?.string
    clusterName = overview["cluster_name"]?.string ?? ""
    exchangeTypes = (overview["exchange_types"]?.array ?? []).compactMap { $0.object?["name"]?.string }.sorted()
    nodes = (try await api.get("nodes").array ?? []).compactMap { node in
      guard let name = node.object?["name"]?.string else { return nil }
      return Node(
        name: name, running: node.object?["running"] == .bool(true),
        enabledPlugins: (node.object?["enabled_plugins"]?.array ?? []).compactMap(\.string).sorted())
    }
    featureFlags = (try await api.get("feature-flags").array ?? []).compactMap { flag in
      flag.object?["state"] == "enabled" ? flag.object?["name"]?.string : nil
    }.sorted()
    vhosts = (try await api.get("vhosts").array ?? []).compactMap { vhost in
      guard let members = vhost.object, let name = members["name"]?.string else { return nil }
      let metadata = members["metadata"]?.object
      let type = (members["default_queue_type"] ?? metadata?["default_queue_type"])?.string
      return VHost(
        name: name, description: (members["description"] ?? metadata?["description"])?.string,
        tags: (members["tags"] ?? metadata?["tags"])?.array?.compactMap(\.string),
        defaultQueueType: type == "undefined" ? nil : type)
    }
    clusterID =
      definitions?.object?["global_parameters"]?.array?.first {
        $0.object?["name"] == "internal_cluster_id"
      }?.object?["value"]?.string
  }

  package func encoded() throws -> ByteBuffer {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return ByteBuffer(bytes: try encoder.encode(self))
  }

  /// - Throws: ``DRError`` with `malformedData`.
  package init(decoding buffer: ByteBuffer) throws {
    do {
      self = try JSONDecoder().decode(Self.self, from: Data(buffer.readableBytesView))
    } catch {
      throw DRError(.malformedData, "this is no description of a broker", object: "broker.json", cause: error)
    }
  }

  /// What tells this cluster from others in manifests.
  package var identifier: String { clusterID ?? clusterName }
}
