//! Trying out each means of isolation, in processes made for it.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use kiln_sys::process::{Namespaces, clone_process, reap};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::event_loop::Surroundings;
use crate::child::{OwnIds, isolation_checks as checks};
use crate::status::describe;
use crate::{Capabilities, Capability};

/// Tries everything.
pub(super) fn probe(surroundings: &Surroundings<'_>) -> Capabilities {
    let try_in = |namespaces: Namespaces, check: &dyn Fn() -> Result<(), Errno>| {
        let wanted = if surroundings.privileged { namespaces } else { namespaces | Namespaces::USER };
        let map = (!surroundings.privileged).then_some(surroundings.ids);
        attempt(wanted, map, check)
    };
    let mount = Namespaces::MOUNT;
    let found = vec![
        (
            Capability::UserNamespace,
            attempt(Namespaces::NONE, None, &|| checks::user_namespace(surroundings.ids)),
        ),
        (Capability::PidNamespace, try_in(Namespaces::PID, &|| Ok(()))),
        (Capability::MountNamespace, try_in(mount, &checks::new_root)),
        (Capability::Procfs, try_in(Namespaces::PID | mount, &checks::procfs)),
        (Capability::Devpts, try_in(mount, &checks::devpts)),
        (Capability::IpcAndHostName, try_in(Namespaces::IPC | Namespaces::UTS, &|| Ok(()))),
        (Capability::NetworkNamespace, try_in(Namespaces::NETWORK, &kiln_sys::network::bring_up_loopback)),
        (
            Capability::SystemCallFilter,
            attempt(Namespaces::NONE, None, &|| checks::filter(&surroundings.filters)),
        ),
        (Capability::LandlockScope, attempt(Namespaces::NONE, None, &checks::landlock_scope)),
        (Capability::Cgroup, writable_cgroup().map_err(|reason| reason.to_owned())),
    ];
    let found = found.into_iter().map(|(capability, result)| (capability, result.err())).collect();
    Capabilities { found, privileged: surroundings.privileged }
}

/// Whether a process can be created in these namespaces.
pub(super) fn can_create(namespaces: Namespaces) -> bool {
    succeeds_in(namespaces, &|| Ok(()))
}

/// Whether something can be done by a process that is created in these namespaces.
pub(super) fn succeeds_in(namespaces: Namespaces, what: &dyn Fn() -> Result<(), Errno>) -> bool {
    attempt(namespaces, None, what).is_ok()
}

/// Runs a check in a process of its own; its error number comes back as the exit code.
fn attempt(
    namespaces: Namespaces,
    map: Option<OwnIds>,
    check: &dyn Fn() -> Result<(), Errno>,
) -> Result<(), String> {
    let checked = clone_process(namespaces, None, || {
        let mapped = map.map_or(Ok(()), |ids| ids.map().map_err(|_| Errno::PERM));
        match mapped.and_then(|()| check()) {
            Ok(()) => 0,
            Err(errno) => u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX),
        }
    })
    .map_err(describe)?;
    let mut polled = [PollFd::new(&checked.pidfd, PollFlags::IN)];
    while let Err(Errno::INTR) = poll(&mut polled, None) {}
    match reap(Some(checked.pid)) {
        Ok(Some(reaped)) if libc::WIFEXITED(reaped.status) => match libc::WEXITSTATUS(reaped.status) {
            0 => Ok(()),
            code => Err(describe(Errno::from_raw_os_error(code))),
        },
        _ => Err("the process that tried it was killed".to_owned()),
    }
}

/// Is there a cgroup2 directory in which this process may make another?
fn writable_cgroup() -> Result<(), &'static str> {
    let mounts = fs::read("/proc/self/mountinfo").map_err(|_| "/proc/self/mountinfo can't be read")?;
    let mut any = false;
    for line in mounts.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(point) = fields.nth(4) else { continue };
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        if kind != Some(b"cgroup2") {
            continue;
        }
        any = true;
        if access(std::ffi::OsStr::from_bytes(point), Access::WRITE_OK).is_ok() {
            return Ok(());
        }
    }
    Err(if any { "no cgroup2 hierarchy may be written to" } else { "no cgroup2 hierarchy is mounted" })
}
