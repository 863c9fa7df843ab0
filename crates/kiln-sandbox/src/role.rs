//! The launcher's side: the role in which this program watches and starts builders.
//!
//! It starts as the guardian, which creates the launcher proper and then only waits: for the engine to go away, or for
//! the launcher to. In both cases all that is left of builders is killed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kiln_sys::process::{Cloned, Namespaces, clone_process, close_inherited_descriptors, reap};
use kiln_sys::signals::reset_signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    Signal, getpid, pidfd_send_signal, set_child_subreaper, set_parent_process_death_signal, setsid,
};
use rustix::stdio::{dup2_stdin, stdin};
use rustix::thread::{CapabilitySet, capabilities};

use crate::ByteString;

mod build;
mod cgroup;
mod event_loop;
mod namespaces;
mod network;
mod plain_chroot;
mod private_network;
mod probe;
mod reaper;
mod spare;
mod strays;

/// The first argument that makes this program a launcher.
pub const LAUNCHER_ARGUMENT: &str = "__kiln-launcher";
/// The first argument that makes this program kill all processes of the user whose ID is the second.
pub(crate) const CLEAR_USER_ARGUMENT: &str = "__kiln-clear-user";

/// A builder that is part of the program, as the launcher's copies run it.
///
/// It runs with the builder's rights in the builder's world, its standard streams are the builder's, and no other
/// descriptor is open. The process has no thread yet. What is returned is the builder's exit code.
pub type RunBuiltin = fn(&BuiltinCall) -> u8;

/// Which builtin to run, with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltinCall {
    /// The builder of the plan.
    pub builder: ByteString,
    /// What would be the environment of a program.
    pub environment: Vec<(ByteString, ByteString)>,
    /// What the plan has for it besides.
    pub input: ByteString,
}

/// Takes the role of the launcher, and never returns, if this program was started for it. `run_builtin` runs the builders
/// that are part of the program.
///
/// To be called first thing in `main`: no thread may exist yet, and nothing may have been opened.
pub fn run_if_launcher(run_builtin: RunBuiltin) {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next();
    let result = if role.as_deref() == Some(LAUNCHER_ARGUMENT.as_ref()) {
        guard(run_builtin)
    } else if role.as_deref() == Some(CLEAR_USER_ARGUMENT.as_ref()) {
        let uid = arguments.next().and_then(|uid| uid.to_str()?.parse().ok());
        uid.ok_or(Errno::INVAL).and_then(strays::kill_user).map_err(io::Error::from)
    } else {
        return;
    };
    if let Err(error) = &result {
        eprintln!("error: the launcher has failed: {error}");
    }
    std::process::exit(i32::from(result.is_err()));
}

/// The guardian: creates the launcher, and outlives it just long enough to clean up.
fn guard(run_builtin: RunBuiltin) -> io::Result<()> {
    close_inherited_descriptors()?;
    reset_signals();
    // Signals for the engine's terminal are the engine's affair.
    match setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let control = fcntl_dupfd_cloexec(stdin(), 3)?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    set_child_subreaper(Some(getpid()))?;
    let (launcher, pid_namespace) = create_launcher(&control, &null, run_builtin)?;
    // The launcher's copies are what counts from here on; this one shows when the engine has gone.
    let mut polled = [PollFd::new(&control, PollFlags::RDHUP), PollFd::new(&launcher.pidfd, PollFlags::IN)];
    while let Err(Errno::INTR) = poll(&mut polled, None) {}
    // It may have ended already.
    let _ = pidfd_send_signal(&launcher.pidfd, Signal::KILL);
    wait_for(&launcher)?;
    if !pid_namespace {
        strays::kill_children(&[]);
    }
    Ok(())
}

/// As the init of a PID namespace where that is possible: then the kernel ends all builders with it.
fn create_launcher(control: &OwnedFd, null: &OwnedFd, run_builtin: RunBuiltin) -> io::Result<(Cloned, bool)> {
    let ours = pidfd_of_self()?;
    if has_privileges() {
        let own_mounts = Namespaces::PID | Namespaces::MOUNT;
        let leaves = plain_chroot::is_in_one() && probe::succeeds_in(own_mounts, &plain_chroot::leave);
        let launcher = || {
            if leaves && plain_chroot::leave().is_err() {
                return 1;
            }
            event_loop::run(control.as_fd(), null.as_fd(), ours.as_fd(), true, run_builtin)
        };
        let namespaces = if leaves { own_mounts } else { Namespaces::PID };
        match clone_process(namespaces, None, launcher) {
            Ok(cloned) => return Ok((cloned, true)),
            Err(Errno::PERM | Errno::NOSPC | Errno::INVAL | Errno::USERS) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let launcher = || event_loop::run(control.as_fd(), null.as_fd(), ours.as_fd(), false, run_builtin);
    Ok((clone_process(Namespaces::NONE, None, launcher)?, false))
}

fn wait_for(child: &Cloned) -> io::Result<()> {
    let mut polled = [PollFd::new(&child.pidfd, PollFlags::IN)];
    while let Err(Errno::INTR) = poll(&mut polled, None) {}
    reap(Some(child.pid))?;
    Ok(())
}

fn pidfd_of_self() -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(getpid(), rustix::process::PidfdFlags::empty())?)
}

/// Has the process ended?
fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now))? > 0)
}

/// Arranges that this process is killed when its parent ends; fails if it has ended already.
///
/// To be called after the last change of credentials, which would undo it.
pub(crate) fn die_with(parent: BorrowedFd<'_>) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if has_ended(parent)? { Err(Errno::SRCH) } else { Ok(()) }
}

/// May this process create namespaces without a user namespace around them?
fn has_privileges() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}
