import DRPostgres
import Logging

/// Rows like a platform's: agents, and what they did.
enum PostgresSampleData {
  private static let schema = """
    CREATE TABLE agents (
      id bigserial PRIMARY KEY, name text NOT NULL, config jsonb NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE agent_data (
      id bigserial PRIMARY KEY, agent_id bigint NOT NULL REFERENCES agents (id), at timestamptz NOT NULL,
      kind text NOT NULL CHECK (kind <> ''), payload jsonb, score double precision, note text);
    CREATE TABLE ledger (
      writer int NOT NULL, sequence int NOT NULL, PRIMARY KEY (writer, sequence));
    INSERT INTO agents (name, config)
      SELECT 'agent-' || n, jsonb_build_object('model', md5(n::text), 'owner', n % 977) FROM generate_series(1, 5000) n;
    """

  /// Fills a database up to about so many bytes. The same seed gives the same rows.
  static func fill(_ server: PostgresConnectionSettings, bytes: Int64, seed: UInt64, logger: Logger) async throws {
    try await PostgresConnection.withConnection(server, logger: logger) { connection in
      try await connection.query(schema)
      try await connection.query("SELECT setseed(\(Double(seed % 10_000) / 10_000))")
      // About 330 bytes a row with its index entry; in pieces, so that no statement is silent for long.
      var rows = max(1000, bytes / 330)
      while rows > 0 {
        let piece = min(rows, 100_000)
        try await connection.query(
          """
          INSERT INTO agent_data (agent_id, at, kind, payload, score, note)
          SELECT 1 + (random() * 4999)::int, now() - random() * interval '90 days',
            (array['step', 'tool', 'reply', 'error'])[1 + (random() * 3)::int],
            jsonb_build_object('step', n, 'trace', md5(random()::text), 'tokens', (random() * 4000)::int),
            random(), repeat('lorem ipsum dolor ' || (n % 1000), 1 + (random() * 3)::int)
          FROM generate_series(1, \(piece)) n
          """, limit: .seconds(300))
        rows -= piece
      }
      try await connection.query("CREATE INDEX ON agent_data (agent_id, at)", limit: .seconds(600))
    }
  }
}
