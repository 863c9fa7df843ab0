//! The one table of commands: names, help, arguments and what to run.
//!
//! Parsing, `--help`, completions, man pages and the checks of the reference in `docs/commands.md` all come from it.

pub(crate) mod build;
pub(crate) mod cache;
mod completions;
mod config;
mod copy;
mod daemon;
mod derivation;
mod doctor;
mod du;
pub(crate) mod gc;
mod hash;
mod log;
mod roots;
mod serve;
pub(crate) mod store;
mod top;

use clap::Command;

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::nix_store;

/// One entry of the table.
pub(crate) struct Entry {
    /// What is typed.
    pub(crate) name: &'static str,
    /// What it is for, in one line without a full stop.
    pub(crate) purpose: &'static str,
    /// What it does, in whole sentences.
    pub(crate) description: &'static str,
    /// A group of commands, or a command.
    pub(crate) kind: Kind,
}

/// What an entry of the table is.
pub(crate) enum Kind {
    /// It has commands of its own.
    Group(&'static [Entry]),
    /// It can be run.
    Run(Run),
}

/// What only commands that can be run have.
pub(crate) struct Run {
    /// Adds its options and arguments.
    pub(crate) arguments: fn(Command) -> Command,
    /// Whether settings of `nix.conf` are also options (`--NAME VALUE`).
    pub(crate) takes_settings: bool,
    /// Typical uses: a command line, and what it does.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    /// Exit codes beyond [`GENERAL_EXIT_CODES`].
    pub(crate) exit_codes: &'static [(&'static str, &'static str)],
    /// Does it, and returns the exit code.
    pub(crate) run: fn(&Invocation<'_>) -> Result<u8, Failure>,
}

/// The exit codes of all commands.
pub(crate) const GENERAL_EXIT_CODES: [(&str, &str); 2] = [
    ("0", "all that was asked for is done"),
    ("1", "any failure without a code of its own; also wrong usage"),
];

/// All commands.
pub(crate) static TABLE: &[Entry] = &[
    build::ENTRY,
    derivation::ENTRY,
    store::ENTRY,
    copy::ENTRY,
    cache::ENTRY,
    gc::ENTRY,
    roots::ENTRY,
    du::ENTRY,
    log::ENTRY,
    hash::ENTRY,
    config::ENTRY,
    daemon::ENTRY,
    top::ENTRY,
    doctor::ENTRY,
    serve::ENTRY,
    nix_store::ENTRY,
    completions::COMPLETIONS,
    completions::MANUAL,
];
