import DRCore
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What is written is what is read.
@Suite struct TarWriterTests {
  private func readBack(_ member: TarMember, content: [UInt8]) throws -> (TarMember, [UInt8]) {
    var archive = ByteBuffer()
    TarWriter.write(member, into: &archive)
    archive.writeBytes(content)
    archive.writeRepeatingByte(0, count: TarWriter.padding(Int64(content.count)) + TarWriter.trailerSize)
    #expect(archive.readableBytes % 512 == 0)
    var reader = TarReader(object: "test.tar", dialect: .everything)
    var found: TarMember?
    var data: [UInt8] = []
    for piece in TestData.pieces(of: archive, upTo: 700) {
      reader.append(piece)
      while let event = try reader.next() {
        switch event {
        case .file(let member), .directory(let member), .symlink(let member), .hardLink(let member): found = member
        case .data(let slice): data += slice.readableBytesView
        case .fileEnd, .end: break
        }
      }
    }
    try reader.finish()
    return (try #require(found), data)
  }

  private func file(_ path: String) -> TarMember {
    TarMember(kind: .file, rawPath: [UInt8](path.utf8), size: 5, mode: 0o644, modified: 1_700_000_000)
  }

  @Test("Names, numbers, moments, attributes and holes come back")
  func roundTrip() throws {
    var members: [TarMember] = []
    for path in [
      "a", String(repeating: "n", count: 100), String(repeating: "n", count: 101), "Zürich", "a=b\n%",
      "d/" + String(repeating: "e/", count: 300) + "f",
    ] {
      members.append(file(path))
    }
    var bytes = file("x")
    bytes.rawPath = [0x66, 0xFF, 0xFE]
    bytes.path = String(decoding: bytes.rawPath, as: UTF8.self)
    members.append(bytes)
    for (seconds, nanoseconds) in [(0, 1), (-1, 500_000_000), (-2, 250_000_000), (-7, 0), (1 << 40, 999_999_999)]
      as [(Int64, Int32)]
    {
      var member = file("time")
      (member.modified, member.nanoseconds) = (seconds, nanoseconds)
      members.append(member)
    }
    var owned = file("owned")
    (owned.userID, owned.groupID, owned.userName, owned.groupName) = (
      4_000_000_000, 3_000_000, "jürgen", String(repeating: "g", count: 60)
    )
    owned.attributes = [
      TarMember.Attribute(name: "user.a=b%3D", value: [0, 10, 255, 61]),
      TarMember.Attribute(name: "user.empty", value: []),
    ]
    owned.accessACL = "user::rw-\nuser:7:r--"
    owned.defaultACL = "user::rwx"
    members.append(owned)
    for member in members {
      let (back, data) = try readBack(member, content: [UInt8]("12345".utf8))
      #expect(back == member)
      #expect(data == [UInt8]("12345".utf8))
    }
    var sparse = file("holes")
    sparse.sparse = TarSparseMap(
      runs: [TarSparseMap.Run(offset: 10, count: 2), TarSparseMap.Run(offset: 1 << 40, count: 3)], length: 1 << 41)
    let (back, data) = try readBack(sparse, content: [UInt8]("12345".utf8))
    #expect(back == sparse && back.length == 1 << 41 && data.count == 5)

    for kind in [TarMember.Kind.folder, .symbolicLink, .hardLink] {
      for target in ["t", String(repeating: "t/", count: 150) + "t"] {
        var member = TarMember(kind: kind, rawPath: [UInt8]("link".utf8), mode: 0o755, modified: 5)
        if kind != .folder { member.rawLinkTarget = [UInt8](target.utf8) }
        #expect(try readBack(member, content: []).0 == member)
      }
    }
  }

  @Test("A file of over 8 GiB has its size")
  func large() throws {
    var member = file("large")
    member.size = 9_000_000_000
    var archive = ByteBuffer()
    TarWriter.write(member, into: &archive)
    var reader = TarReader(object: "test.tar")
    reader.append(archive)
    guard case .file(let back)? = try reader.next() else {
      Issue.record("expected a file")
      return
    }
    #expect(back.size == 9_000_000_000)
  }
}
