//! Someone else works on the same tree at the same time.

use crate::scratch::{Scratch, component, mode};
use kiln_fs::*;
use kiln_nar::Event;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What lies outside, and must stay as it is.
struct Victim {
    path: PathBuf,
}

impl Victim {
    fn new(scratch: &Scratch) -> Self {
        let path = scratch.path("victim");
        fs::create_dir(&path).unwrap();
        for number in 0..20 {
            fs::write(path.join(format!("f{number}")), "precious").unwrap();
            fs::set_permissions(path.join(format!("f{number}")), fs::Permissions::from_mode(0o640)).unwrap();
        }
        Self { path }
    }

    fn assert_unharmed(&self) {
        assert_eq!(fs::read_dir(&self.path).unwrap().count(), 20);
        assert_ne!(fs::metadata(&self.path).unwrap().mtime(), 1);
        for number in 0..20 {
            let file = self.path.join(format!("f{number}"));
            assert_eq!(fs::read(&file).unwrap(), b"precious");
            assert_eq!(mode(&file), 0o640);
            assert_ne!(fs::metadata(&file).unwrap().mtime(), 1);
        }
    }
}

/// Runs `work` again and again while another thread exchanges a directory of the tree with a link to the victim.
fn while_swapping(work: impl Fn(&Scratch)) {
    let scratch = Scratch::in_memory();
    let victim = Victim::new(&scratch);
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let (directory, link) = (scratch.path("tree/sub/d"), scratch.path("tree/sub/l"));
    std::thread::scope(|scope| {
        // Also when an assertion below fails.
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Fails while there is no tree.
                if renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE).is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for _ in 0..150 {
            fs::create_dir_all(&directory).unwrap();
            for number in 0..20 {
                fs::write(scratch.path(&format!("tree/sub/f{number}")), "x").unwrap();
                // The directory may be exchanged by now: a failure is as good.
                let _ = fs::write(scratch.path(&format!("tree/sub/d/g{number}")), "x");
            }
            // The victim's files are told from the tree's by their names.
            symlink(&victim.path, &link).unwrap();
            // The attack must be under way.
            let (before, start) = (swaps.load(Ordering::Relaxed), Instant::now());
            while swaps.load(Ordering::Relaxed) == before {
                assert!(start.elapsed() < Duration::from_secs(30), "nothing is swapped");
                std::thread::yield_now();
            }
            work(&scratch);
            while scratch.path("tree").exists() {
                let _ = delete_tree(&scratch.directory, &component("tree"));
            }
        }
    });
    victim.assert_unharmed();
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn deleting_while_links_are_swapped_in() {
    while_swapping(|_| {});
}

#[test]
fn canonicalising_while_links_are_swapped_in() {
    while_swapping(|scratch| {
        let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
        // It may fail, and must not reach the victim.
        let _ = canonicaliser.canonicalise(&scratch.directory, &component("tree"));
    });
}

#[test]
fn scanning_while_links_are_swapped_in() {
    while_swapping(|scratch| {
        let mut archive = Vec::new();
        let mut canonicaliser = Canonicaliser::new(Ownership::of_this_process());
        let _ = scan_output(&scratch.directory, &component("tree"), &mut canonicaliser, [], false);
        let _ = dump(&scratch.directory, &component("tree"), &mut archive);
        assert!(!archive.windows(8).any(|window| window == b"precious"));
    });
}

/// A directory that is moved out of the tree while its inside is deleted takes the deletion nowhere.
#[test]
fn deleting_while_directories_are_moved_away() {
    let scratch = Scratch::in_memory();
    let victim = Victim::new(&scratch);
    let stop = AtomicBool::new(false);
    // Deep enough that the way up leads through `..`.
    let deep = (0..60).fold(PathBuf::from("tree"), |path, _| path.join("d"));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            let moved = scratch.path("tree/d/d/d/d");
            let away = victim.path.join("moved");
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(&moved, &away);
                let _ = fs::rename(&away, &moved);
            }
        });
        for _ in 0..100 {
            let _ = fs::create_dir_all(scratch.path(deep.to_str().unwrap()));
            for _ in 0..50 {
                if delete_tree(&scratch.directory, &component("tree")).is_ok() {
                    break;
                }
            }
        }
    });
    let moved = Directory::open(&victim.path).unwrap();
    delete_tree(&moved, &component("moved")).unwrap();
    assert_eq!(fs::read_dir(&victim.path).unwrap().count(), 20);
    for number in 0..20 {
        assert_eq!(fs::read(victim.path.join(format!("f{number}"))).unwrap(), b"precious");
    }
}

/// Whatever is planted where the restorer is about to create something is an error, and isn't written through.
#[test]
fn restoring_over_planted_things() {
    let scratch = Scratch::new();
    fs::write(scratch.path("precious"), "precious").unwrap();
    fs::create_dir(scratch.path("elsewhere")).unwrap();
    let file = Event::Regular { executable: false, size: 1, offset: 0 };
    for (number, node) in [file, Event::Directory, Event::Symlink(b"x")].into_iter().enumerate() {
        for (kind, target) in ["precious", "elsewhere"].into_iter().enumerate() {
            let name = component(&format!("tree-{number}-{kind}"));
            let mut restorer = Restorer::new(&scratch.directory, &name, RestoreOptions::default());
            restorer.event(Event::Directory).unwrap();
            symlink(scratch.path(target), scratch.path(&format!("{name}/planted"))).unwrap();
            restorer.event(Event::Entry(b"planted")).unwrap();
            assert!(restorer.event(node).unwrap_err().already_exists());
        }
        // And at the root.
        let mut restorer =
            Restorer::new(&scratch.directory, &component("precious"), RestoreOptions::default());
        assert!(restorer.event(node).unwrap_err().already_exists());
    }
    assert_eq!(fs::read(scratch.path("precious")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(scratch.path("elsewhere")).unwrap().count(), 0);
}

/// A directory of the tree is replaced by a link while the tree is restored: the files land in the directory.
#[test]
fn restoring_while_a_directory_is_swapped() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("elsewhere")).unwrap();
    let name = component("tree");
    let mut restorer = Restorer::new(&scratch.directory, &name, RestoreOptions::default());
    restorer.event(Event::Directory).unwrap();
    restorer.event(Event::Entry(b"d")).unwrap();
    restorer.event(Event::Directory).unwrap();
    fs::rename(scratch.path("tree/d"), scratch.path("moved")).unwrap();
    symlink(scratch.path("elsewhere"), scratch.path("tree/d")).unwrap();
    restorer.event(Event::Entry(b"f")).unwrap();
    restorer.event(Event::Symlink(b"x")).unwrap();
    restorer.event(Event::EndDirectory).unwrap();
    assert_eq!(fs::read_dir(scratch.path("elsewhere")).unwrap().count(), 0);
    assert!(fs::symlink_metadata(scratch.path("moved/f")).is_ok());
}

/// Names from an archive that would lead elsewhere don't get to the system, even without the decoder's checks.
#[test]
fn restorer_takes_only_single_names() {
    let scratch = Scratch::new();
    let name = component("tree");
    let mut restorer = Restorer::new(&scratch.directory, &name, RestoreOptions::default());
    restorer.event(Event::Directory).unwrap();
    for bad in [&b".."[..], b".", b"", b"a/b", b"/etc", b"a\0"] {
        assert!(matches!(restorer.event(Event::Entry(bad)), Err(Error::Component(_))));
    }
}
