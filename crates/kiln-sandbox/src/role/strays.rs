//! Killing what a build has left behind, where no PID namespace does it.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln_sys::process::{Namespaces, clone_process, kill_everything, reap};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getuid, kill_process};
use rustix::thread::{Uid, set_thread_res_uid};

/// How long a killed process may take to be gone. One that waits for a dead device takes for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills and collects all children of this process but `spared`, and what becomes its child by their end, until there
/// are none. Returns how many were left when patience ended.
pub(super) fn kill_children(spared: &[Pid]) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let strays: Vec<Pid> = children().into_iter().filter(|pid| !spared.contains(pid)).collect();
        if strays.is_empty() {
            return 0;
        }
        for stray in &strays {
            // One that has ended is collected all the same.
            let _ = kill_process(*stray, Signal::KILL);
            let _ = reap(Some(*stray));
        }
        if Instant::now() > deadline {
            return u32::try_from(strays.len()).unwrap_or(u32::MAX);
        }
        sleep(Duration::from_millis(1));
    }
}

/// The children of this process, which has a single thread.
fn children() -> Vec<Pid> {
    let Ok(list) = fs::read_to_string("/proc/thread-self/children") else { return vec![] };
    list.split_ascii_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

/// Kills every process of a user that is a build user and nothing else.
///
/// This is done by a process that becomes that user, since then the kernel itself picks the victims.
pub(super) fn kill_user(uid: u32) -> Result<(), Errno> {
    if uid == 0 || uid == getuid().as_raw() {
        return Err(Errno::INVAL);
    }
    let killer = clone_process(Namespaces::NONE, None, || {
        let user = Uid::from_raw(uid);
        if set_thread_res_uid(user, user, user).is_err() {
            return 1;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match kill_everything() {
                Err(Errno::SRCH) => return 0,
                // What its parent has not collected yet still counts for the kernel, but has nothing left.
                _ if !has_living_processes(uid) => return 0,
                // There were some. They may have multiplied meanwhile.
                _ if Instant::now() > deadline => return 1,
                _ => sleep(Duration::from_millis(1)),
            }
        }
    })?;
    let mut polled = [PollFd::new(&killer.pidfd, PollFlags::IN)];
    while let Err(Errno::INTR) = poll(&mut polled, None) {}
    match reap(Some(killer.pid))? {
        Some(reaped) if reaped.status == 0 => Ok(()),
        _ => Err(Errno::BUSY),
    }
}

/// Is there a process of this user, other than this one, that has not ended yet?
fn has_living_processes(uid: u32) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return true };
    let own = getpid().as_raw_nonzero().get();
    entries.filter_map(Result::ok).any(|entry| {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if number.is_none_or(|number| number == own) {
            return false;
        }
        fs::read_to_string(entry.path().join("status")).is_ok_and(|status| is_living_process_of(uid, &status))
    })
}

/// From the contents of a `/proc/PID/status` file.
fn is_living_process_of(uid: u32, status: &str) -> bool {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_ascii_whitespace().next()
    };
    let ended = matches!(field("State:"), Some("Z" | "X"));
    !ended && field("Uid:").and_then(|real| real.parse().ok()) == Some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_and_other_users_do_not_count() {
        let status =
            |state: &str, uid: u32| format!("Name:\tx\nState:\t{state}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
        assert!(is_living_process_of(7, &status("S (sleeping)", 7)));
        assert!(!is_living_process_of(7, &status("Z (zombie)", 7)));
        assert!(!is_living_process_of(7, &status("S (sleeping)", 8)));
        assert!(!is_living_process_of(7, ""));
    }

    #[test]
    fn living_processes_are_found() {
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(has_living_processes(getuid().as_raw()));
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!has_living_processes(4_000_000_000));
    }
}
