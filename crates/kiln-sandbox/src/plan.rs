//! The plan of a build's world: a value that says all that there is to say about it, and that can be printed.
//!
//! The engine computes a [`LaunchPlan`] from a derivation and its settings; the launcher carries it out without
//! deciding anything. Paths are the host's where they are called *source*, and the builder's where they are called
//! *target*.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ByteString;

/// Everything that the launcher needs to know to start a builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The program, as the builder's world names it. Its base name becomes `argv[0]`. Of a builtin, its name.
    pub builder: ByteString,
    /// For a builder that is part of this program: what it is given besides its environment. There is no program then; the
    /// process itself does the work ([`crate::RunBuiltin`]).
    #[serde(default)]
    pub builtin: Option<ByteString>,
    /// Arguments after `argv[0]`.
    pub arguments: Vec<ByteString>,
    /// The whole environment, in the order in which the builder gets it.
    pub environment: Vec<(ByteString, ByteString)>,
    /// Where the builder starts.
    pub build_directory: BuildDirectoryPlan,
    /// Files to create in the build directory, owned by the builder.
    #[serde(default)]
    pub files: Vec<PlacedFile>,
    /// Whose rights the builder has.
    pub credentials: Credentials,
    /// Which machine `uname` claims. Address-space randomisation is off in any case.
    #[serde(default)]
    pub personality: PersonalityPlan,
    /// Whether system calls are filtered.
    #[serde(default)]
    pub system_calls: SystemCallFilter,
    /// Soft limit of open files; `None` keeps what the engine was started with.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// A cgroup (version 2) to create for the build, in a directory that the engine may write to.
    #[serde(default)]
    pub cgroup: Option<ByteString>,
    /// What the builder is kept from.
    pub confinement: Confinement,
}

/// The build directory, inside and outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildDirectoryPlan {
    /// The directory on the host: owned by the builder, below one that only root can enter.
    pub source: ByteString,
    /// Its name for the builder (`sandbox-build-dir`); without a sandbox the same as `source`.
    pub target: ByteString,
}

/// A file that the engine puts into the build directory before the builder can reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFile {
    /// A single path component.
    pub name: ByteString,
    /// What is in it.
    pub contents: ByteString,
    /// Permission bits, at most 0777.
    pub mode: u32,
}

/// Whose rights the builder has on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    /// Those of the engine itself: an ordinary user, or root without build users.
    Caller,
    /// Those of a build user; only root can give them.
    BuildUser {
        /// The user.
        uid: u32,
        /// The group of all build users.
        gid: u32,
        /// Groups that the user has outside a sandbox. Within one there are none.
        #[serde(default)]
        supplementary_groups: Vec<u32>,
    },
}

/// What `uname` claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonalityPlan {
    /// The 32-bit variant of the machine, for i686 on x86_64.
    pub linux32: bool,
    /// Linux 2.6 (`impersonate-linux-26`).
    pub linux26: bool,
}

/// Whether system calls are filtered, and how strictly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemCallFilter {
    /// Only listed calls, and those without set-user-ID modes, extended attributes, and rare socket families.
    #[default]
    Strict,
    /// As strict, but i386 programs may create sockets by `socketcall`, whose address family no filter can see.
    /// Needed by i686-linux builds, since glibc has no other way there.
    StrictWithSocketcall,
    /// Not at all (`filter-syscalls = false`).
    Off,
}

/// What a builder is kept from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// A world of its own: see [`Sandbox`].
    Sandbox(Box<Sandbox>),
    /// The host's files, network and names. Processes are still gathered where the machine allows it, so that none
    /// outlives the build.
    None,
}

/// The builder's world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The store and what the builder sees of it.
    pub store: StoreView,
    /// The host's directory for `/tmp`, mode 1777.
    pub temporary_directory: ByteString,
    /// Which network there is.
    pub network: Network,
    /// The program `pasta` on the host, for [`Network::Isolated`].
    #[serde(default)]
    pub network_helper: Option<ByteString>,
    /// Is `/dev/kvm` offered, where the host has it?
    #[serde(default)]
    pub kvm: bool,
    /// Size of the tmpfs at `/dev/shm` as its mount option has it (`sandbox-dev-shm-size`), such as `50%`.
    pub shared_memory_size: String,
    /// How many user and group IDs the builder has, from those of its credentials on. With more than one (`uid-range`) it is
    /// root among them: it has capabilities over what it makes itself, nothing of the sandbox. Takes a build user and a
    /// cgroup, which is the builder's then.
    #[serde(default = "one")]
    pub id_count: u32,
    /// Paths of the host to show besides (`sandbox-paths`). They win over what the sandbox has by itself.
    #[serde(default)]
    pub paths: Vec<SandboxPath>,
    /// Hide what `/proc` tells about the machine rather than about the build's processes, and protect what in it changes the
    /// machine. A builder that is root on the host needs this; any other lacks the permissions for most of it anyway. With
    /// it, programs that make a user namespace of their own can't mount a procfs there, since the kernel lets them only
    /// where nothing is hidden.
    #[serde(default = "yes")]
    pub mask_proc: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

/// The store directory in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// The store directory that the builder sees, such as `/nix/store`.
    pub target: ByteString,
    /// The host's directory behind it, mode 1775, where outputs appear. On the file system of the real store, so that
    /// they can be renamed into it.
    pub source: ByteString,
    /// The input closure.
    pub inputs: Vec<Input>,
}

/// A store path that the builder may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Base name in the store directory.
    pub name: ByteString,
    /// Where it is on the host.
    pub source: ByteString,
}

/// Which network a builder sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Network {
    /// None but a loopback interface of its own.
    Private,
    /// One of its own, from which a helper ([`Sandbox::network_helper`]) makes connections to the world; for fixed-output
    /// derivations. The host's loopback addresses and abstract sockets are out of reach, and so is the builder for the host.
    Isolated,
    /// The host's, for fixed-output derivations where there is no helper. Abstract sockets of the host are out of reach where landlock can do it.
    Host,
}

/// A path of the host that the builder sees (`sandbox-paths`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPath {
    /// Where the builder sees it.
    pub target: ByteString,
    /// What it is on the host; a symbolic link stands for what it points to.
    pub source: ByteString,
    /// May it be missing?
    #[serde(default)]
    pub optional: bool,
    /// Is it protected from a builder that has the permission to write?
    #[serde(default)]
    pub read_only: bool,
}

impl LaunchPlan {
    /// The plan of the sandbox, if there is one.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        match &self.confinement {
            Confinement::Sandbox(sandbox) => Some(sandbox),
            Confinement::None => None,
        }
    }
}

/// Pretty-printed JSON.
impl fmt::Display for LaunchPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tests_support;
