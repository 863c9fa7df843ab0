//! The sandbox in which builders run.
//!
//! A build's world is a [`LaunchPlan`]: a value that can be printed, compared, and tested. The engine, which has many
//! threads and never forks, hands plans to one [`Launcher`] process, the same program in another role (see
//! [`run_if_launcher`]). The launcher is small and has a single thread, so copying it is cheap and safe: for each plan it
//! creates a process in new namespaces, which sets up the world with ordinary code and then becomes the builder. What
//! happens to the build comes back as typed [`StatusMessage`]s over a channel of its own; its output comes through a
//! pseudo-terminal.
//!
//! ```text
//! engine ──plans──▶ launcher ──clone──▶ set-up ──execve──▶ builder
//!    ▲   ◀──status: created, started or failed, exited──┘      │
//!    └──────────────── log: pseudo-terminal ───────────────────┘
//! ```
//!
//! Between engine and launcher stands a guardian, which does nothing but kill everything when the engine is gone. As root
//! the launcher is the init of a PID namespace, so that the kernel itself ends all builders with it.
//!
//! In a PID namespace the end of the builder is the end of all its processes; [`StatusMessage::Exited`] is sent when
//! they are gone, and only then may the engine look at what they have written.
//!
//! All of it needs Linux 5.12, for mounts and processes by descriptor.
//!
//! What cannot be isolated on a machine is never silently left out: [`StatusMessage::Started`] says what the build got
//! ([`Isolation`]), and [`Capabilities`] what the machine offers.

mod build_users;
mod byte_string;
mod capabilities;
mod cgroups;
mod child;
mod directories;
mod error;
mod isolation;
mod launcher;
mod log_terminal;
mod macos_profile;
mod mounts;
mod pasta;
mod plan;
mod request;
mod role;
mod seccomp;
mod status;

pub use build_users::{BuildUser, BuildUserError, BuildUsers};
pub use byte_string::ByteString;
pub use capabilities::{Capabilities, Capability};
pub use cgroups::Cgroups;
pub use directories::{BuildDirectories, BuildDirectory, ChrootDirectories, ChrootDirectory};
pub use error::SandboxError;
pub use isolation::Isolation;
pub use launcher::{Launcher, RunningBuilder};
pub use macos_profile::{
    MacosCommand, MacosConfinement, MacosPath, MacosPathKind, MacosPlan, MacosProfileError, MacosSandbox,
};
pub use mounts::{Bind, FileSystemKind, MountOperation, mount_operations};
pub use plan::{
    BuildDirectoryPlan, Confinement, Credentials, Input, LaunchPlan, Network, PersonalityPlan, PlacedFile,
    Sandbox, SandboxPath, StoreView, SystemCallFilter,
};
pub use role::{BuiltinCall, LAUNCHER_ARGUMENT, RunBuiltin, run_if_launcher};
pub use status::{BuilderExit, ExitStatus, Receipt, SetupError, SetupStage, StatusChannel, StatusMessage};
