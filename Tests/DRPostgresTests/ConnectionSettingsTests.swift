import DRCore
import DRPostgres
import Testing

@Suite struct ConnectionSettingsTests {
  @Test func readsKeywordsAndURIs() throws {
    let settings = try PostgresConnectionSettings(
      conninfo: "host=db.example port=5433 user=app dbname=orders password='s3 cret' sslmode=verify-full "
        + "sslrootcert=/etc/ca.pem connect_timeout=7 application_name=backup sslcert=/c.pem")
    #expect(settings.host == "db.example")
    #expect(settings.port == 5433)
    #expect(settings.user == "app")
    #expect(settings.database == "orders")
    #expect(settings.password == "s3 cret")
    #expect(settings.sslMode == .verifyFull)
    #expect(settings.rootCertificate == "/etc/ca.pem")
    #expect(settings.connectTimeout == .seconds(7))
    #expect(settings.applicationName == "backup")
    #expect(settings.otherParameters == ["sslcert": "/c.pem"])

    let uri = try PostgresConnectionSettings(conninfo: "postgresql://app:p%40ss@[::1]:6000/orders?sslmode=require")
    #expect(uri.host == "::1")
    #expect(uri.port == 6000)
    #expect(uri.password == "p@ss")
    #expect(uri.sslMode == .require)
    #expect(try PostgresConnectionSettings(conninfo: "").host == nil)
  }

  @Test func noTextShowsThePassword() throws {
    let settings = try PostgresConnectionSettings(conninfo: "host=h user=u password=hunter2 sslpassword=hunter2")
    var dumped = ""
    dump((settings, [settings]), to: &dumped)
    for text in ["\(settings)", String(reflecting: settings), dumped, "\([settings])", "\(Optional(settings) as Any)"] {
      #expect(!text.contains("hunter2"))
      #expect(text.contains("h"))
    }
  }

  @Test(arguments: [
    "hunter2", "password=hunter2 nosuchkeyword=1", "postgresql://u:hunter2@h:1/db?nosuch=1",
    "password='hunter2", "postgresql://u:hunter2%zz@h/db", "password=hunter2 sslmode=perhaps",
    "password=hunter2 connect_timeout=soon", "host=h\0 password=hunter2",
  ])
  func refusesWhatCannotBeReadWithoutQuotingIt(conninfo: String) throws {
    let error = try #require(throws: DRError.self) { try PostgresConnectionSettings(conninfo: conninfo) }
    #expect(error.code == .invalidConfiguration)
    #expect(!"\(error)".contains("hunter2"))
  }
}
