/// A way to reach people.
public protocol NotificationChannel: Sendable {
  /// For reports. Holds no secret.
  var name: String { get }

  /// Sends. Returns when it was taken.
  ///
  /// - Throws: Why it was not, without any secret.
  func send(_ announcement: Announcement) async throws
}
