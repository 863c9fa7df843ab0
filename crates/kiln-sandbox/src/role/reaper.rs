//! The process above a builder that has no PID namespace: it gathers what the builder leaves behind.
//!
//! Whatever loses its parent becomes a child of the reaper, even after `setsid` and a double fork, so it can kill them all
//! when the builder has ended. Then it ends the way the builder did, and so hands its result on.

use std::os::fd::AsFd;

use kiln_sys::process::{Namespaces, clone_process, close_inherited_descriptors, exit_now};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use super::strays;
use crate::child::Child;
use crate::status::{Report, SetupError, SetupStage};

/// Runs a build's set-up in a child of this process. The result is the exit code.
pub(super) fn run(child: Child<'_>) -> u8 {
    let status = child.status;
    let failed = |errno| {
        let error = SetupError::new(SetupStage::Process, "unable to start build process", errno);
        status.send(&Report::SetupFailed(error), None);
        1
    };
    let own = match super::pidfd_of_self() {
        Ok(own) => own,
        Err(error) => {
            return failed(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
    };
    if let Err(errno) = super::die_with(child.launcher).and_then(|()| set_child_subreaper(Some(getpid()))) {
        return failed(errno);
    }
    let child = Child { launcher: own.as_fd(), ..child };
    let builder = match clone_process(Namespaces::NONE, None, || child.run()) {
        Ok(builder) => builder,
        Err(errno) => return failed(errno),
    };
    // Copies of the launcher's descriptors, kept open as long as the build runs, would hide from the engine that the
    // launcher has closed its own. Nothing here uses a descriptor any more.
    let _ = close_inherited_descriptors();
    finish(builder.pid)
}

fn finish(builder: Pid) -> u8 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == builder => {
                strays::kill_children(&[]);
                if let Some(signal) = status.terminating_signal().and_then(Signal::from_named_raw) {
                    let _ = kill_process(getpid(), signal);
                }
                exit_now(status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}
