//! Path locks, as other processes see them.

use crate::scratch::{Scratch, component};
use kiln_fs::*;
use std::fs;
use std::sync::mpsc;
use std::time::Duration;

fn file_is_locked(scratch: &Scratch, name: &str) -> bool {
    let file = fs::File::open(scratch.path(name)).unwrap();
    matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))
}

#[test]
fn locks_are_exclusive_and_all_or_none() {
    let scratch = Scratch::new();
    let store = &scratch.directory;
    let held =
        PathLocks::try_acquire(store, [component("b"), component("a"), component("b")]).unwrap().unwrap();
    assert!(file_is_locked(&scratch, "a.lock") && file_is_locked(&scratch, "b.lock"));
    assert_eq!(crate::scratch::mode(&scratch.path("a.lock")), 0o600);
    assert!(PathLocks::try_acquire(store, [component("0"), component("b")]).unwrap().is_none());
    assert!(!file_is_locked(&scratch, "0.lock"));
    drop(held);
    assert_eq!(
        fs::metadata(scratch.path("a.lock")).unwrap().len(),
        0,
        "the file stays, and is good for the next"
    );
    drop(PathLocks::try_acquire(store, [component("a")]).unwrap().unwrap());
}

#[test]
fn deletion_unlinks_first_and_marks_the_file() {
    let scratch = Scratch::new();
    let mut held = PathLocks::try_acquire(&scratch.directory, [component("a")]).unwrap().unwrap();
    let waiting = fs::File::open(scratch.path("a.lock")).unwrap();
    held.delete_on_release(true);
    drop(held);
    assert!(!scratch.path("a.lock").exists());
    assert_eq!(waiting.metadata().unwrap().len(), 1);
}

/// Who waits for a lock that is then deleted gets a new one.
#[test]
fn waiters_start_again_after_deletion() {
    let scratch = Scratch::new();
    let mut held = PathLocks::try_acquire(&scratch.directory, [component("a")]).unwrap().unwrap();
    held.delete_on_release(true);
    let store = scratch.directory.try_clone().unwrap();
    let (told, waits) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let lock = PathLocks::acquire(&store, [component("a")], &mut |path| {
            told.send(path.to_path_buf()).unwrap();
        });
        lock.unwrap()
    });
    assert_eq!(waits.recv().unwrap(), scratch.path("a.lock"));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiter.is_finished());
    drop(held);
    let lock = waiter.join().unwrap();
    assert!(file_is_locked(&scratch, "a.lock"));
    assert_eq!(fs::metadata(scratch.path("a.lock")).unwrap().len(), 0);
    drop(lock);
    assert!(!file_is_locked(&scratch, "a.lock"));
}

/// Many takers of the same two locks, in both orders, that delete them or not: never two at once, never a deadlock.
#[test]
fn contention() {
    let scratch = Scratch::new();
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for taker in 0..4 {
            let (scratch, inside) = (&scratch, &inside);
            scope.spawn(move || {
                for round in 0..50 {
                    let paths = if taker % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
                    let mut lock =
                        PathLocks::acquire(&scratch.directory, paths.map(component), &mut |_| {}).unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    lock.delete_on_release(round % 3 == 0);
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
}

#[test]
fn a_planted_link_is_not_followed() {
    let scratch = Scratch::new();
    std::os::unix::fs::symlink("elsewhere", scratch.path("a.lock")).unwrap();
    assert!(PathLocks::try_acquire(&scratch.directory, [component("a")]).is_err());
    assert!(!scratch.path("elsewhere").exists());
}
