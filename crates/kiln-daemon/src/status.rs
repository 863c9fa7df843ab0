//! What a daemon does right now, as it tells those who watch over it (`/status`, JSON).
//!
//! Times are seconds since 1970 by the daemon's clock, which is `now`. Texts that came from outside are safe to show: one
//! line each, of bounded length, without control characters.

use serde::{Deserialize, Serialize};

/// What a daemon does right now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of Kiln.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// The store that it serves.
    pub store_dir: String,
    /// When this was written.
    pub now: u64,
    /// When the daemon began.
    pub started: u64,
    /// Slots for builds on this machine.
    pub build_slots: SlotStatus,
    /// Slots for substitutions.
    pub substitution_slots: SlotStatus,
    /// Who is connected, longest first.
    pub connections: Vec<ConnectionStatus>,
    /// What is being done, longest first.
    pub work: Vec<WorkStatus>,
    /// What waits for a slot, longest first.
    pub queue: Vec<QueuedStatus>,
    /// The servers that paths are substituted from, as far as one has been asked.
    pub substituters: Vec<SubstituterStatus>,
}

/// How slots are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Slots that something runs in.
    pub used: usize,
    /// Slots that there are.
    pub total: usize,
    /// Jobs that wait for one.
    pub waiting: usize,
}

/// A client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Names the connection in [`WorkStatus::connections`].
    pub id: u64,
    /// Its user's name, or number if there is none.
    pub user: String,
    /// Its user.
    pub uid: u64,
    /// Its process, if the kernel says.
    pub pid: Option<i32>,
    /// Whether it is trusted.
    pub trusted: bool,
    /// When it connected.
    pub since: u64,
    /// What it has asked for, unless it is idle.
    pub request: Option<RequestStatus>,
}

/// What a client waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStatus {
    /// The operation of the worker protocol.
    pub operation: String,
    /// When it was asked for.
    pub since: u64,
    /// Builds that it needs.
    pub builds: ProgressStatus,
    /// Substitutions that it needs.
    pub substitutions: ProgressStatus,
    /// What is waited for, in words: locks, build users, machines.
    pub waits_for: Vec<String>,
}

/// How far something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressStatus {
    /// Done.
    pub done: u64,
    /// To be done in all.
    pub expected: u64,
    /// Under way.
    pub running: u64,
    /// Failed.
    pub failed: u64,
}

/// Something that is being done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkStatus {
    /// Its number, which no other work of this daemon has.
    pub id: u64,
    /// What sort of work it is.
    pub kind: WorkKind,
    /// The derivation or store path that it is about.
    pub path: String,
    /// The machine or substituter that it is done by, if not this machine.
    pub place: Option<String>,
    /// When it began, or when the first of those who want it now heard of it.
    pub since: u64,
    /// The phase that the builder is in, if it says.
    pub phase: Option<String>,
    /// The last line of the log.
    pub last_line: Option<String>,
    /// Bytes of the archive that have arrived, and how many there are, of a substitution.
    pub bytes: Option<(u64, u64)>,
    /// Connections that want it.
    pub connections: Vec<u64>,
}

/// Sorts of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkKind {
    /// A builder runs.
    Build,
    /// A path is fetched.
    Substitution,
    /// The post-build hook runs.
    PostBuildHook,
}

/// Something that waits for a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedStatus {
    /// Base name of the derivation, or of the path to be substituted.
    pub path: String,
    /// Whether it is a build; otherwise it is a substitution.
    pub is_build: bool,
    /// The user for whom it was begun.
    pub uid: u64,
    /// Since when it waits.
    pub since: u64,
}

/// A server that paths are substituted from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubstituterStatus {
    /// Its URL, without a password.
    pub url: String,
    /// Whether it is asked.
    pub is_well: bool,
    /// How often it gave an answer.
    pub answers: u64,
    /// How often it failed.
    pub failures: u64,
    /// What happened the last time that it failed.
    pub last_failure: Option<String>,
}
