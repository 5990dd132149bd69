/// How `pg_dump` writes a database.
public enum DumpFormat: Hashable, Sendable {
  /// Its archive: `pg_restore` picks out of it, in any order. The artifact `<database>.dump`.
  case custom
  /// SQL for `psql`. The artifact `<database>.sql`.
  case plain
  /// A folder that several jobs write, and several can restore, stored as a tar: `<database>.dump.tar`. It lies in a
  /// temporary folder while it is written.
  case directory(jobs: Int)

  /// The name of the artifact of a database.
  func artifact(of database: String) -> String {
    switch self {
    case .custom: "\(database).dump"
    case .plain: "\(database).sql"
    case .directory: "\(database).dump.tar"
    }
  }
}
