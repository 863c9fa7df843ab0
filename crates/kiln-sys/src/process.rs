//! Creating, becoming, and waiting for processes.

use std::ffi::{CStr, CString};
use std::fs;
use std::mem;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::failure::last_errno;

mod namespaces;
mod spawn;
pub use namespaces::Namespaces;
pub use spawn::{SpawnPlan, spawn_process_group};

/// A process that [`clone_process`] made.
#[derive(Debug)]
pub struct Cloned {
    /// Its number in the caller's PID namespace.
    pub pid: Pid,
    /// A descriptor of it (close-on-exec), readable once the process has ended.
    pub pidfd: OwnedFd,
}

/// How a process ended, and what it and the descendants that it waited for used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// The process that was waited for.
    pub pid: Pid,
    /// The wait status as `wait4(2)` encodes it.
    pub status: i32,
    /// CPU time spent in user mode.
    pub user: Duration,
    /// CPU time spent in the kernel.
    pub system: Duration,
    /// The largest resident set size of a single process, in bytes.
    pub max_rss: u64,
}

/// Does the calling process consist of the calling thread alone?
///
/// `unshare` with these flags changes nothing for a process with one thread, and is refused for all others. Where a
/// container forbids `unshare` as a whole, the threads are counted in `/proc`.
pub fn is_single_threaded() -> bool {
    let flags = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    // SAFETY: with these flags alone the call is a check that has no effect on this process.
    if unsafe { libc::unshare(flags) } == 0 {
        return true;
    }
    last_errno() != Errno::INVAL && fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Creates a copy of this process in new namespaces, in which `child` runs; its result is the exit code.
///
/// `cgroup` is the descriptor of a cgroup2 directory in which the copy starts. The copy's signal handlers are reset.
///
/// # Errors
///
/// `EDEADLK` if the calling process has more than one thread: a copy of it would have the locks of the other threads,
/// and nobody to release them. Else what `clone3(2)` says; `EPERM` for namespaces that the caller may not create.
pub fn clone_process(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> u8,
) -> Result<Cloned, Errno> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    let mut pidfd: libc::c_int = -1;
    let result = match raw_clone3(namespaces, cgroup, &mut pidfd) {
        // Containers that can't look into the arguments of clone3 pretend that it doesn't exist.
        Err(Errno::NOSYS) if cgroup.is_none() => raw_clone(namespaces, &mut pidfd),
        result => result,
    }?;
    let Some(pid) = Pid::from_raw(result) else {
        // This is the copy. It must never return into the caller's stack frames, not even by a panic.
        let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(u8::MAX);
        exit_now(code)
    };
    // SAFETY: the kernel has just stored a new descriptor there, which nobody else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned { pid, pidfd })
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Returns 0 in the copy and its PID in the caller.
fn raw_clone3(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    pidfd: &mut libc::c_int,
) -> Result<i32, Errno> {
    let mut flags = namespaces.bits() | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    let mut cgroup_descriptor = 0;
    if let Some(cgroup) = cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup_descriptor = u64::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: ptr::from_mut(pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup_descriptor,
    };
    // SAFETY: `arguments` is a valid `clone_args` of the given size, and `pidfd` outlives the call. Without CLONE_VM
    // the child gets a copy of the memory and goes on on a copy of this stack, as with fork(2); the caller has checked
    // that there are no other threads whose locks would be copied.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, ptr::from_ref(&arguments), mem::size_of::<libc::clone_args>())
    };
    i32::try_from(result).ok().filter(|pid| *pid >= 0).ok_or_else(last_errno)
}

/// As [`raw_clone3`], by the older system call.
fn raw_clone(namespaces: Namespaces, pidfd: &mut libc::c_int) -> Result<i32, Errno> {
    let flags = namespaces.bits() | libc::CLONE_PIDFD as u64 | libc::SIGCHLD as u64;
    let none = 0_usize;
    // SAFETY: as for clone3; a stack of zero means a copy of the caller's, and CLONE_PIDFD stores the descriptor at
    // the third argument, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, none, ptr::from_mut(pidfd), none, none) };
    i32::try_from(result).ok().filter(|pid| *pid >= 0).ok_or_else(last_errno)
}

/// Moves the calling process, which must have a single thread, into new namespaces. A user namespace among them has no
/// mappings yet, and the others belong to it. A new PID namespace is for its children.
///
/// # Errors
///
/// `EDEADLK` if there are more threads; else what `unshare(2)` says.
pub fn enter_namespaces(namespaces: Namespaces) -> Result<(), Errno> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    let flags = libc::c_int::try_from(namespaces.bits()).map_err(|_| Errno::INVAL)?;
    // SAFETY: changes what the only thread is allowed and what it sees; no memory is involved, and no descriptor.
    if unsafe { libc::unshare(flags) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Becomes another program. Every descriptor from 3 on is closed by that. Returns only if it fails.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    if let Err(errno) = mark_descriptors_close_on_exec() {
        return errno;
    }
    let arguments = null_terminated(arguments);
    let environment = null_terminated(environment);
    // SAFETY: both arrays end with a null pointer, and they and the strings live until the call has replaced the
    // process or failed.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_errno()
}

/// Sees to it that no program that is executed from now on gets a descriptor from 3 on.
fn mark_descriptors_close_on_exec() -> Result<(), Errno> {
    // SAFETY: marks descriptors, closes none: no owner of a descriptor in this process can notice before another program
    // is executed.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn null_terminated(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Closes every descriptor from 3 on that this process was started with.
///
/// To be called first thing in a program that must not keep what its parent leaked: descriptors opened since then
/// would be closed under their owners.
pub fn close_inherited_descriptors() -> Result<(), Errno> {
    // SAFETY: closing a descriptor touches no memory. Nobody in this process owns a descriptor above 2 yet: that is
    // the condition of this function.
    if unsafe { libc::close_range(3, libc::c_uint::MAX, 0) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Closes every descriptor from 3 on but those of `kept`.
///
/// To be called in a copy of a process ([`clone_process`]) that will use none of the others: nobody may own one of them
/// who would still use or close it.
pub fn close_descriptors_but(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    for range in closed_ranges(kept) {
        // SAFETY: closing a descriptor touches no memory, and the condition of this function is that nobody in this
        // process uses one of these any more.
        if unsafe { libc::close_range(*range.start(), *range.end(), 0) } != 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

/// What lies between the kept ones.
fn closed_ranges(kept: &[BorrowedFd<'_>]) -> Vec<RangeInclusive<u32>> {
    let mut kept: Vec<u32> =
        kept.iter().filter_map(|descriptor| u32::try_from(descriptor.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    let mut ranges = Vec::new();
    for next in kept.into_iter().chain([u32::MAX]) {
        if next > first {
            ranges.push(first..=next - 1);
        }
        first = first.max(next.saturating_add(1));
    }
    ranges
}

/// Collects a child that has ended, without waiting for one: `None` stands for any child.
///
/// # Errors
///
/// `ECHILD` if there is no such child.
pub fn reap(child: Option<Pid>) -> Result<Option<Reaped>, Errno> {
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid `rusage`, which consists of integers.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let number = child.map_or(-1, |pid| pid.as_raw_nonzero().get());
    // SAFETY: both pointers are to live values of the right types.
    let result = unsafe { libc::wait4(number, &mut status, libc::WNOHANG | libc::__WALL, &mut usage) };
    if result < 0 {
        return Err(last_errno());
    }
    Ok(Pid::from_raw(result).map(|pid| Reaped {
        pid,
        status,
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    }))
}

fn duration(time: libc::timeval) -> Duration {
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)).saturating_add(Duration::from_micros(micros))
}

/// Kills every process that the caller may kill, itself excepted; `ESRCH` when there is none left.
///
/// Meant for the init of a PID namespace, and for a process that has taken the user ID whose processes shall go:
/// anyone else would kill far too much.
pub fn kill_everything() -> Result<(), Errno> {
    // SAFETY: sending a signal to other processes touches no memory of this one.
    if unsafe { libc::kill(-1, libc::SIGKILL) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Ends the process at once: no destructors, no handlers of other code.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: does not return, and runs no code of this process.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(test)]
mod tests;
