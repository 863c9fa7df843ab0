//! Becoming root in a user namespace with a whole range of IDs (`uid-range`).
//!
//! Only a process outside of a user namespace may map more than its own ID into it, so a child that stays outside does it. In
//! the namespace the builder keeps its capabilities: they are over what belongs to that namespace, which is what the builder
//! makes itself; mounts, network and names of the sandbox belong to another.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use kiln_sys::process::{Cloned, Namespaces, clone_process, enter_namespaces, reap};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::failed;
use crate::SetupError;

/// To be called with the capabilities of root and the IDs of the build user, as the init of a PID namespace whose procfs is
/// mounted.
pub(super) fn become_root(uid: u32, gid: u32, count: u32) -> Result<(), SetupError> {
    let cannot = failed("cannot create the builder's user namespace");
    let (entered, enter) = pipe_with(PipeFlags::CLOEXEC).map_err(&cannot)?;
    let mapper = clone_process(Namespaces::NONE, None, || {
        // The process that is mapped has the other end too, but it says so if it fails.
        let mapped = wait_for_byte(&entered).and_then(|()| map_ids_of_init(uid, gid, count));
        mapped.map_or_else(|errno| u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX), |()| 0)
    })
    .map_err(&cannot)?;
    enter_namespaces(Namespaces::USER).map_err(&cannot)?;
    write(&enter, b"e").map_err(&cannot)?;
    wait_for(&mapper).map_err(failed("cannot map the ids of the builder's user namespace"))?;
    set_thread_groups(&[]).map_err(&cannot)?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(&cannot)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(&cannot)
}

fn wait_for_byte(pipe: &OwnedFd) -> Result<(), Errno> {
    loop {
        match read(pipe.as_fd(), &mut [0; 1]) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

fn map_ids_of_init(uid: u32, gid: u32, count: u32) -> Result<(), Errno> {
    let write = |path: &str, text: String| {
        fs::write(path, text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    write("/proc/1/uid_map", format!("0 {uid} {count}\n"))?;
    write("/proc/1/gid_map", format!("0 {gid} {count}\n"))
}

/// Waits for the end of a process whose exit code is an error number.
fn wait_for(mapper: &Cloned) -> Result<(), Errno> {
    while let Err(Errno::INTR) = poll(&mut [PollFd::new(&mapper.pidfd, PollFlags::IN)], None) {}
    match reap(Some(mapper.pid))? {
        Some(reaped) if reaped.status == 0 => Ok(()),
        Some(reaped) if libc::WIFEXITED(reaped.status) => {
            Err(Errno::from_raw_os_error(libc::WEXITSTATUS(reaped.status)))
        }
        _ => Err(Errno::CHILD),
    }
}
