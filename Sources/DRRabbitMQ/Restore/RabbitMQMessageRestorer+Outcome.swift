extension RabbitMQMessageRestorer {
  /// What became of one queue.
  public struct QueueOutcome: Sendable, Hashable {
    public var vhost: String
    public var queue: String
    /// Messages that were published and confirmed now.
    public var published: Int64
    /// Messages that an earlier, killed restore had confirmed.
    public var resumedFrom: Int64
    /// Messages that may be there twice, for the killed restore had sent them and could not hear whether they arrived.
    /// 0 where the queue's depth told.
    public var mayBeRepeated: Int64
    /// Of those that were published now: how many a tap had captured.
    public var fromTap: Int64
    /// Messages left out because they were published after the target.
    public var afterTarget: Int64
    /// Messages left out because one of the same message-id had been published before.
    public var duplicates: Int64
    /// Messages whose `user_id` was another user's and was left out.
    public var usersLeftOut: Int64
    /// Messages that the queue has now; nil for a stream.
    public var depth: Int64?
  }
}
