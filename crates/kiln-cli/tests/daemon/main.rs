//! `kiln daemon`, met by real Nix clients and by hostile ones.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod adding;
mod building;
mod client;
mod clients;
mod clients_of_kiln;
mod hostile;
mod lifecycle;
mod load;
mod moving;
mod newer;
mod old_clients;
mod over_ssh;
mod queries;
mod replay;
mod substitution;
mod trust;
mod upkeep;
mod watching;
mod wire;

use kiln_testing::Daemon;

const KILN: &str = env!("CARGO_BIN_EXE_kiln");

/// A daemon with the usual settings; `None` where there is no real Nix.
fn daemon() -> Option<Daemon> {
    Daemon::running(KILN)
}

/// Whether this is root, who alone can be another user, too.
fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        kiln_testing::needs_root(what);
    }
    is_root
}

/// What the daemon's process has in memory, in MiB.
fn memory(daemon: &Daemon) -> u64 {
    of_status(daemon, "VmRSS:")
}

/// The most that it ever had.
fn peak_memory(daemon: &Daemon) -> u64 {
    of_status(daemon, "VmHWM:")
}

fn of_status(daemon: &Daemon, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
