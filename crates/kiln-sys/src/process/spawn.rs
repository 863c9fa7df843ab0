//! Starting another program as a child, with descriptors at numbers of the caller's choice.
//!
//! This is `posix_spawn(3)`: the memory of this process is not copied, so that it costs the same however large that is,
//! and threads don't matter. The standard library can do all of it but descriptors above 2.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Pid;

use super::mark_descriptors_close_on_exec;

/// A program to start.
#[derive(Debug)]
pub struct SpawnPlan<'a> {
    /// The file; not looked for anywhere.
    pub program: &'a CStr,
    /// Its arguments, the name that it is called by first.
    pub arguments: &'a [CString],
    /// Its environment, as `NAME=value`.
    pub environment: &'a [CString],
    /// Where it starts.
    pub directory: &'a CStr,
    /// Its descriptors, and the number of each. Of 0 to 2 it shares with this process those that are not given; it gets no
    /// others.
    pub descriptors: &'a [(BorrowedFd<'a>, RawFd)],
}

/// Starts a program as the leader of a process group of its own, with default signals, none of them blocked.
///
/// The child must be waited for by its PID. So that it gets no other descriptors, all those of this process from 3 on are
/// marked as close-on-exec, which those that Rust opens are anyway.
///
/// # Errors
/// What the system says; that the program, or the directory, is not there is told here and not by an exit code.
pub fn spawn_process_group(plan: &SpawnPlan<'_>) -> Result<Pid, Errno> {
    // Moved out of the way of each other's new numbers first.
    let above = plan.descriptors.iter().map(|(_, number)| number.saturating_add(1)).max().unwrap_or(0);
    let moved = plan
        .descriptors
        .iter()
        .map(|(descriptor, number)| Ok((fcntl_dupfd_cloexec(descriptor, above)?, *number)))
        .collect::<Result<Vec<(OwnedFd, RawFd)>, Errno>>()?;
    mark_descriptors_close_on_exec()?;
    let mut actions = FileActions::new()?;
    for (descriptor, number) in &moved {
        actions.duplicate(descriptor.as_raw_fd(), *number)?;
    }
    actions.change_directory(plan.directory)?;
    let attributes = Attributes::of_group_leader()?;
    let (arguments, environment) = (pointers(plan.arguments), pointers(plan.environment));
    let mut pid = 0;
    // SAFETY: all pointers are to live values: the strings end with zero, the arrays with a null pointer, and actions and
    // attributes are initialised. The callee writes to none of them but `pid`, in spite of the types of the arrays.
    check(unsafe {
        libc::posix_spawn(
            &mut pid,
            plan.program.as_ptr(),
            ptr::from_ref(&actions.0),
            ptr::from_ref(&attributes.0),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    })?;
    Pid::from_raw(pid).ok_or(Errno::INVAL)
}

fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

/// These functions return their error number instead of leaving it behind.
fn check(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(result)) }
}

/// What happens in the child before it becomes the program.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> Result<Self, Errno> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the pointer is to memory of the right type, which the call initialises.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: the call has succeeded.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn duplicate(&mut self, descriptor: RawFd, number: RawFd) -> Result<(), Errno> {
        // SAFETY: the actions are initialised; the numbers are only remembered.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, descriptor, number) })
    }

    fn change_directory(&mut self, directory: &CStr) -> Result<(), Errno> {
        // SAFETY: the actions are initialised, and the string, which ends with zero, is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.0, directory.as_ptr()) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: they are initialised, and not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// What the child is like.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn of_group_leader() -> Result<Self, Errno> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the pointer is to memory of the right type, which the call initialises.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: the call has succeeded.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        let (none, all) = (signal_set(libc::sigemptyset), signal_set(libc::sigfillset));
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = libc::c_short::try_from(flags).map_err(|_| Errno::INVAL)?;
        // SAFETY: the attributes are initialised; 0 stands for the child's own PID.
        check(unsafe { libc::posix_spawnattr_setpgroup(&mut attributes.0, 0) })?;
        // SAFETY: the attributes and the set are initialised.
        check(unsafe { libc::posix_spawnattr_setsigmask(&mut attributes.0, &none) })?;
        // SAFETY: the attributes and the set are initialised.
        check(unsafe { libc::posix_spawnattr_setsigdefault(&mut attributes.0, &all) })?;
        // SAFETY: the attributes are initialised.
        check(unsafe { libc::posix_spawnattr_setflags(&mut attributes.0, flags) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they are initialised, and not used after this.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

fn signal_set(fill: unsafe extern "C" fn(*mut libc::sigset_t) -> libc::c_int) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is to memory of the right type; both functions that this is called with initialise it, and never
    // fail.
    unsafe { fill(set.as_mut_ptr()) };
    // SAFETY: it was initialised just now.
    unsafe { set.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitOptions, waitpid};
    use std::fs::File;
    use std::io::{Read, Write, pipe};
    use std::os::fd::AsFd;

    fn strings(strings: &[&str]) -> Vec<CString> {
        strings.iter().map(|string| CString::new(*string).unwrap()).collect()
    }

    fn exit_code(pid: Pid) -> Option<i32> {
        waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1.exit_status()
    }

    #[test]
    fn a_program_gets_its_descriptors_and_no_others() {
        // What was opened without close-on-exec is not handed on either.
        let leak =
            rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        let (mut output, theirs) = pipe().unwrap();
        let (input, mut ours) = pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let script = "cat <&5; echo $A $0 $1; pwd; ls /proc/$$/fd; ps -o pgid= -p $$ >&4; echo $$ >&4; \
                      grep -E 'Sig(Blk|Ign)' /proc/self/status";
        let pid = spawn_process_group(&SpawnPlan {
            program: c"/bin/sh",
            arguments: &strings(&["sh", "-c", script, "zero", "one"]),
            environment: &strings(&["A=b", "PATH=/usr/bin:/bin"]),
            directory: c"/usr",
            descriptors: &[
                (null.as_fd(), 0),
                (theirs.as_fd(), 1),
                (null.as_fd(), 2),
                (theirs.as_fd(), 4),
                (input.as_fd(), 5),
            ],
        })
        .unwrap();
        drop((theirs, input));
        ours.write_all(b"read\n").unwrap();
        drop(ours);
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(exit_code(pid), Some(0));
        let lines: Vec<&str> = text.split_whitespace().collect();
        let number = pid.as_raw_nonzero().to_string();
        let (signals, expected) =
            (lines.split_at(11).1, ["read", "b", "zero", "one", "/usr", "0", "1", "2", "4", "5", &number]);
        assert_eq!(lines[..11], expected, "{leak:?}");
        let [pid, "SigBlk:", blocked, "SigIgn:", ignored] = signals else { panic!("{signals:?}") };
        assert_eq!((*pid, *blocked), (&*number, "0000000000000000"));
        // The C library may ignore two signals of its own.
        let own = 1 << 31 | 1 << 32;
        assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !own, 0);
    }

    #[test]
    fn descriptors_may_change_their_numbers() {
        let (mut output, first) = pipe().unwrap();
        let (mut other, second) = pipe().unwrap();
        // Each wants the number of the other.
        let (low, high) = (first.as_raw_fd(), second.as_raw_fd());
        let pid = spawn_process_group(&SpawnPlan {
            program: c"/bin/sh",
            arguments: &strings(&[
                "sh",
                "-c",
                "echo first > /proc/self/fd/$1; echo second > /proc/self/fd/$2",
                "sh",
                &high.to_string(),
                &low.to_string(),
            ]),
            environment: &[],
            directory: c"/",
            descriptors: &[(first.as_fd(), high), (second.as_fd(), low)],
        })
        .unwrap();
        drop((first, second));
        assert_eq!(exit_code(pid), Some(0));
        for (pipe, text) in [(&mut output, "first\n"), (&mut other, "second\n")] {
            let mut read = String::new();
            pipe.read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }

    #[test]
    fn what_is_not_there_is_told_at_once() {
        let plan = |program, directory| SpawnPlan {
            program,
            arguments: &[],
            environment: &[],
            directory,
            descriptors: &[],
        };
        assert_eq!(spawn_process_group(&plan(c"/does/not/exist", c"/")), Err(Errno::NOENT));
        assert_eq!(spawn_process_group(&plan(c"/bin/sh", c"/does/not/exist")), Err(Errno::NOENT));
        assert_eq!(spawn_process_group(&plan(c"/dev/null", c"/")), Err(Errno::ACCESS));
    }
}
