//! Temporary roots, with and without a collector.

use crate::scratch::Scratch;
use kiln_fs::{Access, CollectorLock, Component, Stale, TempRoots, for_each_temp_root};
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
    assert_eq!(fs::read_to_string(file(&scratch)).unwrap(), format!("{A}\0{B}\0"), "each once");
    let other = fs::File::open(file(&scratch)).unwrap();
    assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
    let gc_lock = fs::File::open(scratch.path("gc.lock")).unwrap();
    gc_lock.try_lock().expect("the lock against collectors is not kept");
    drop(roots);
    assert!(!file(&scratch).exists());
}

/// Real Nix's collector takes an entry that is no store path for damage, so that what is left of a dropped one is one.
#[test]
fn what_is_dropped_makes_room_for_others_of_its_length() {
    let scratch = Scratch::new();
    let mut roots = TempRoots::create(&scratch.directory).unwrap();
    let contents = || fs::read_to_string(file(&scratch)).unwrap();
    roots.add(&[A, B]).unwrap();
    roots.remove(&[A, "/nix/store/never-added"]).unwrap();
    let nothing = "/nix/store/00000000000000000000000000000000-simple";
    assert_eq!(contents(), format!("{nothing}\0{B}\0"));
    let longer = A.replace("simple", "simpler");
    roots.add(&[&longer]).unwrap();
    assert_eq!(contents(), format!("{nothing}\0{B}\0{longer}\0"));
    roots.add(&[A]).unwrap();
    assert_eq!(contents(), format!("{A}\0{B}\0{longer}\0"));
    roots.remove(&[A, B, &longer]).unwrap();
    assert_eq!(contents(), "", "nothing is left to keep in place");
    roots.add(&[B]).unwrap();
    assert_eq!(contents(), format!("{B}\0"));
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

fn read(scratch: &Scratch, stale: Stale) -> Vec<(String, String)> {
    let mut roots = Vec::new();
    let mut visit = |name: &Component, root: &[u8]| {
        roots.push((name.to_string(), String::from_utf8(root.to_vec()).unwrap()));
    };
    for_each_temp_root(&scratch.directory, stale, &mut visit, &mut |error| panic!("{error}")).unwrap();
    roots
}

/// A collector sees the roots of the living, this process among them, and takes away what the dead have left.
#[test]
fn collectors_read_the_roots_of_the_living() {
    let scratch = Scratch::new();
    assert!(read(&scratch, Stale::Remove).is_empty(), "there is no directory yet");
    let mut roots = TempRoots::create(&scratch.directory).unwrap();
    roots.add(&["/nix/store/a", "/nix/store/b"]).unwrap();
    let process = std::process::id().to_string();
    let own = |root: &str| (process.clone(), root.to_owned());
    std::fs::write(scratch.path("temproots/1"), "/nix/store/dead\0").unwrap();
    std::fs::write(scratch.path("temproots/.keep"), "/nix/store/kept\0").unwrap();
    let file = std::fs::OpenOptions::new().append(true).open(scratch.path("temproots").join(&process));
    std::io::Write::write_all(&mut file.unwrap(), b"/nix/store/half").unwrap();
    let expected = [own("/nix/store/a"), own("/nix/store/b")];
    assert_eq!(read(&scratch, Stale::Keep), expected);
    assert!(scratch.path("temproots/1").exists());
    assert_eq!(read(&scratch, Stale::Remove), expected);
    assert!(!scratch.path("temproots/1").exists() && scratch.path("temproots/.keep").exists());
}

#[test]
fn a_collectors_lock_keeps_others_out() {
    let scratch = Scratch::new();
    let acquire = |access| CollectorLock::try_acquire(&scratch.directory, access).unwrap();
    let collector = acquire(Access::Exclusive);
    assert!(collector.is_some() && acquire(Access::Shared).is_none() && acquire(Access::Exclusive).is_none());
    let mut waits = 0;
    let given_up = CollectorLock::acquire(&scratch.directory, Access::Shared, &mut || {
        waits += 1;
        waits < 3
    });
    assert!(given_up.unwrap().is_none() && waits == 3);
    let left = collector.unwrap().share().unwrap();
    assert!(left.is_some() && acquire(Access::Shared).is_some() && acquire(Access::Exclusive).is_none());
    drop(left);
    let shared = [acquire(Access::Shared), acquire(Access::Shared)];
    assert!(shared.iter().all(Option::is_some) && acquire(Access::Exclusive).is_none());
}
