public import DRCore

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
    /// Messages left out because one of the same message-id comes before them in this restore.
    public var duplicates: Int64
    /// Messages whose `user_id` was another user's and was left out.
    public var usersLeftOut: Int64
    /// Messages that the queue has now; nil for a stream.
    public var depth: Int64?
    /// Of those that a tap had captured: how many came so near to the dump that an equal one without a message-id may be the
    /// dump's copy: at most so many are there twice.
    public var mayBeInDump: Int64 = 0
    /// Of those that a tap had captured: how many came around the dump, or may have, and are not in it. Consumers may have had
    /// them before it: at most so much work is repeated of what was done before the dump.
    public var aroundDump: Int64 = 0
    /// Messages that were restored and may have been published after the target: they waited for the tap, or the dump ended
    /// after it.
    public var mayBeAfterTarget: Int64 = 0
    /// A killed restore had brought all of it, and nothing was done now.
    public var wasFinished = false
    /// What was found out about the tap's segments.
    public var findings: [Finding] = []
  }
}
