//! Temporary roots, with and without a collector.

use crate::scratch::Scratch;
use kiln_fs::TempRoots;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

const A: &str = "/nix/store/mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";
const B: &str = "/nix/store/fkcy6m3kx766j9lmy6dy4c5i4k2x23s6-multi";

fn file(scratch: &Scratch) -> PathBuf {
    scratch.path(&format!("temproots/{}", std::process::id()))
}

#[test]
fn roots_are_in_the_locked_file_of_the_process() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("temproots")).unwrap();
    // Of a process of the same number, long dead.
    fs::write(file(&scratch), "stale").unwrap();
    let mut roots = TempRoots::create(&scratch.directory).unwrap();
    assert_eq!(fs::read(file(&scratch)).unwrap(), b"");
    assert_eq!(crate::scratch::mode(&file(&scratch)), 0o600);
    roots.add(&[A, B]).unwrap();
    roots.add(&[A]).unwrap();
    roots.add::<&str>(&[]).unwrap();
    assert_eq!(fs::read_to_string(file(&scratch)).unwrap(), format!("{A}\0{B}\0{A}\0"));
    let other = fs::File::open(file(&scratch)).unwrap();
    assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
    let gc_lock = fs::File::open(scratch.path("gc.lock")).unwrap();
    gc_lock.try_lock().expect("the lock against collectors is not kept");
    drop(roots);
    assert!(!file(&scratch).exists());
}

/// A collector runs: it is told each path, and nothing is written before it has answered.
#[test]
fn a_running_collector_is_told() {
    let scratch = Scratch::new();
    let mut roots = TempRoots::create(&scratch.directory).unwrap();
    let gc_lock = fs::File::create(scratch.path("gc.lock")).unwrap();
    gc_lock.lock().unwrap();
    let (added, when_added) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            roots.add(&[A, B]).unwrap();
            added.send(roots).unwrap();
        });
        // No socket yet: it tries again.
        assert!(when_added.recv_timeout(Duration::from_millis(150)).is_err());
        fs::create_dir(scratch.path("gc-socket")).unwrap();
        let listener = UnixListener::bind(scratch.path("gc-socket/socket")).unwrap();
        // The first collector goes away without an answer.
        drop(listener.accept().unwrap());
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        for path in [A, B] {
            assert_eq!(lines.next().unwrap().unwrap(), path);
            assert!(when_added.recv_timeout(Duration::from_millis(30)).is_err());
            assert_eq!(fs::read(file(&scratch)).unwrap(), b"");
            (&stream).write_all(b"1").unwrap();
        }
        let _roots = when_added.recv().unwrap();
        assert_eq!(fs::read_to_string(file(&scratch)).unwrap(), format!("{A}\0{B}\0"));
    });
}
