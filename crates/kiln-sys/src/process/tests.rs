use std::fs::File;
use std::os::fd::AsFd;

use super::*;

#[test]
fn a_process_with_threads_is_not_copied() {
    // The test runner itself has more than one thread while this one runs.
    let other = std::thread::spawn(|| std::thread::sleep(Duration::from_millis(200)));
    assert!(!is_single_threaded());
    let refused = clone_process(Namespaces::NONE, None, || 0);
    assert_eq!(refused.unwrap_err(), Errno::DEADLK);
    assert_eq!(enter_namespaces(Namespaces::USER), Err(Errno::DEADLK));
    other.join().unwrap();
}

#[test]
fn executing_what_is_not_there_fails_and_returns() {
    assert_eq!(execute(c"/does/not/exist", &[], &[]), Errno::NOENT);
}

#[test]
fn reaping_somebody_elses_process_is_an_error() {
    assert_eq!(reap(Some(Pid::INIT)), Err(Errno::CHILD));
}

#[test]
#[allow(clippy::zombie_processes, reason = "it is reaped by the function under test")]
fn reaping_reports_status_and_usage() {
    let child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let reaped = loop {
        if let Some(reaped) = reap(pid).unwrap() {
            break reaped;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(Some(reaped.pid), pid);
    assert!(libc::WIFEXITED(reaped.status));
    assert_eq!(libc::WEXITSTATUS(reaped.status), 3);
    assert!(reaped.max_rss > 0);
}

#[test]
fn sets_of_namespaces_combine() {
    let mut set = Namespaces::PID | Namespaces::MOUNT;
    assert!(set.contains(Namespaces::PID) && !set.contains(Namespaces::NETWORK));
    set |= Namespaces::NETWORK;
    assert!(set.contains(Namespaces::NETWORK | Namespaces::MOUNT));
}

#[test]
fn all_descriptors_but_the_kept_ones_are_closed() {
    // Which ones that are: to close them is not for a process with other tests in it.
    let (kept, other) = (File::open("/dev/null").unwrap(), File::open("/dev/null").unwrap());
    let (kept_number, other_number) = (kept.as_raw_fd(), other.as_raw_fd());
    let ranges = closed_ranges(&[kept.as_fd(), kept.as_fd()]);
    assert!(ranges.iter().all(|range| !range.contains(&(kept_number as u32))));
    assert!(ranges.iter().any(|range| range.contains(&(other_number as u32))));
    assert!(ranges.iter().any(|range| range.contains(&u32::MAX.saturating_sub(1))));
    assert!(ranges.iter().all(|range| *range.start() >= 3));
    assert!(closed_ranges(&[]) == [3..=u32::MAX - 1]);
}
