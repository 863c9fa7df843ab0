//! Whom jobs are for.

/// Names a client; chosen by whoever tells of it. The default is the owner of the scheduler, who is always there and has
/// no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Names a user, who may have several clients. Slots are shared among users, and not among clients, so that nobody gets
/// more by coming twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u64);

/// What a client may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whose client it is.
    pub user: UserId,
    /// How many builds may run for it at once; with 0 only local ones, one at a time.
    pub builds: usize,
}
