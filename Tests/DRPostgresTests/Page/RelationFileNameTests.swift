import DRPostgres
import Testing

@Suite struct RelationFileNameTests {
  @Test(arguments: [
    ("base/5/16384", 5, 16384, "", 0), ("base/5/16384.1", 5, 16384, "", 1), ("base/5/16384_fsm", 5, 16384, "fsm", 0),
    ("base/5/16384_vm.3", 5, 16384, "vm", 3), ("base/5/16384_init", 5, 16384, "init", 0),
    ("global/1262", 0, 1262, "", 0), ("global/1262_vm", 0, 1262, "vm", 0),
    ("PG_15_202209061/5/16400_vm", 5, 16400, "vm", 0), ("PG_15_202209061/5/16400.32767", 5, 16400, "", 32767),
    ("pg_tblspc/16390/PG_15_202209061/5/16400", 5, 16400, "", 0), ("base/4294967295/1", 4_294_967_295, 1, "", 0),
  ])
  func findsPages(path: String, database: UInt32, node: UInt32, fork: String, segment: UInt32) throws {
    let name = try #require(RelationFileName(path: path))
    #expect(name.database == database && name.fileNode == node && name.fork.rawValue == fork)
    #expect(name.segment == segment && name.firstBlock == segment * 131_072)
  }

  @Test(arguments: [
    "global/pg_control", "global/pg_filenode.map", "global/pg_internal.init", "base/5/PG_VERSION", "PG_VERSION",
    "base/5/pg_filenode.map", "base/5/pg_internal.init", "base/5/pg_internal.init.123", "base/5/t3_16384",
    "base/5/t3_16384_fsm", "base/pgsql_tmp/pgsql_tmp123.0", "base/pgsql_tmp", "PG_15_202209061/pgsql_tmp/1",
    "base/5", "base/5/", "base/5/1/2", "base/5/016384", "base/5/0", "base/0/1", "base/5/16384.0", "base/5/16384.01",
    "base/5/16384.32768", "base/5/16384.", "base/5/16384_", "base/5/16384_main", "base/5/16384_fsm.x",
    "base/5/16384.1_fsm",
    "base/5/4294967296", "base/5/99999999999999999999", "base/x/1", "pg_wal/000000010000000000000001", "pg_xact/0000",
    "pg_tblspc/16390", "pg_tblspc/16390/PG_15_202209061", "pg_tblspc/x/PG_15_202209061/5/16400", "base/+5/1", "", "/",
    "pg_tblspc/16390/base/5/16400",
  ])
  func refuses(path: String) { #expect(RelationFileName(path: path) == nil) }
}
