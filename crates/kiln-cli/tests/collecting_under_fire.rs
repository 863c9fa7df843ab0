//! Collections that never pause, while Kiln and real Nix build, add, make roots and drop them in one store: nothing that is alive
//! is lost. First Kiln collects, then real Nix, then both in turns. `KILN_FIRE_SECONDS` makes it longer.
//!
//! Real Nix 2.8 reads permanent roots, of paths that are valid then, before temporary ones. What a process makes valid between the
//! two, and holds no more since it ends, is deleted in spite of its root. So where Nix collects, only what was valid and had a
//! root when a collection began must survive it; where Kiln does, all that has a root at any time. Nor does real Nix look at
//! temporary roots again between deciding what is dead and deleting it, so a build may lose an input that it counts on, whoever
//! builds; it is tried again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say what was done"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kiln_testing::{Ran, RandomNumbers, SharedStore};

/// How long it takes, unless `KILN_FIRE_SECONDS` says.
const SECONDS: u64 = 12;

/// Derivations on top, each on some of few lower ones, so that what one drops another still needs.
const TOPS: usize = 8;

/// Who works at the same time.
const WORKERS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collector {
    Kiln,
    Nix,
    Both,
}

impl Collector {
    /// Whether what has a root is spared by a collection that has begun before.
    fn sees_late_roots(self) -> bool {
        self == Self::Kiln
    }
}

struct Fire {
    store: SharedStore,
    kiln_as_nix_store: PathBuf,
    /// The derivations on top, and their outputs.
    tops: Vec<(String, String)>,
    is_over: AtomicBool,
    /// Collections that have begun, in all.
    begun: AtomicUsize,
    done: [AtomicUsize; 5],
}

/// What is counted.
#[derive(Clone, Copy)]
enum Done {
    Built,
    Added,
    Kept,
    Collected,
    /// What real Nix has overlooked, or something that it needs, while it was made.
    Overlooked,
}

impl Fire {
    fn light() -> Option<Self> {
        let store =
            SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?.option("sandbox", "false").option("max-jobs", "2");
        let expression = format!(
            r#"
            let
              mk = name: script: more: derivation ({{
                inherit name; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
                args = [ "-ec" script ]; }} // more);
              text = builtins.toFile "text" "a text";
              lib = n: mk "lib${{toString n}}" "mkdir $out; cat $text > $out/text; echo same > $out/same; echo ${{toString n}} > $out/n" {{ inherit text; }};
              mod = n: n - n / 5 * 5;
              mid = n: mk "mid${{toString n}}" "for lib in $libs; do cat $lib/n $lib/text; done > $out; echo $libs >> $out"
                {{ libs = [ (lib (mod n)) (lib (mod (n + 1))) ]; }};
              top = n: mk "top${{toString n}}" "mkdir $out; cat $mids > $out/all; echo $mids > $out/mids; echo same > $out/same"
                {{ mids = [ (mid n) (mid (n + 1)) ]; }};
            in builtins.genList top {TOPS}"#
        );
        let root = store.directory().join("derivation");
        let root = root.to_str().unwrap();
        let derivations = store
            .nix_lines("nix-instantiate", ["-E", &expression, "--indirect", "--add-root", root])
            .into_iter();
        let real = |link: String| fs::read_link(&link).map_or(link, |target| target.display().to_string());
        let output =
            |derivation: &str| store.nix_lines("nix-store", ["-q", "--outputs", derivation]).remove(0);
        let tops: Vec<_> = derivations.map(real).map(|path| (path.clone(), output(&path))).collect();
        assert_eq!(tops.len(), TOPS);
        let kiln_as_nix_store = store.kiln_as("nix-store");
        let (is_over, begun, done) = Default::default();
        Some(Self { store, kiln_as_nix_store, tops, is_over, begun, done })
    }

    fn done(&self) -> [usize; 5] {
        self.done.each_ref().map(|done| done.load(Ordering::SeqCst))
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Waits for the end of as many collections.
    fn wait_for_collections(&self, count: usize) {
        while self.done()[Done::Collected as usize] < count && !self.is_over() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn count(&self, what: Done) {
        self.done[what as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Runs `nix-store` by one of the two, which must go well.
    fn nix_store(&self, by_kiln: bool, arguments: &[&str]) -> String {
        let program = if by_kiln { self.kiln_as_nix_store.to_str().unwrap() } else { "nix-store" };
        let mut command = self.store.nix().command(program);
        let ran = Ran::from(command.args(arguments).output().unwrap());
        assert_eq!(ran.code, Some(0), "{program} {arguments:?}: {}", ran.stderr);
        ran.stdout
    }

    /// All that a path needs is valid, and on the disk.
    fn check_whole(&self, path: &str, by_kiln: bool) {
        let closure = self.nix_store(by_kiln, &["-qR", path]);
        let paths: Vec<&str> = closure.lines().collect();
        assert!(paths.len() >= 6 && paths.contains(&path), "{closure}");
        for path in paths {
            assert!(fs::symlink_metadata(path).is_ok(), "{path} is valid, needed by a root, and not there");
        }
    }

    /// Until it is over: builds something, looks at it, drops its root, and adds a file.
    fn work(&self, worker: usize, collector: Collector, numbers: &mut RandomNumbers) {
        while !self.is_over() {
            let top = &self.tops[numbers.below(TOPS)];
            if collector.sees_late_roots() {
                self.root_after(worker, top, numbers);
            } else {
                self.root_before(worker, top, numbers);
            }
            let file = self.store.write(&format!("file{worker}"), format!("{}", numbers.below(50)));
            self.nix_store(numbers.below(2) == 0, &["--add", file.to_str().unwrap()]);
            self.count(Done::Added);
        }
    }

    /// Builds something whose root is there before, until a collection has begun with both there; it stays then.
    fn root_before(
        &self,
        worker: usize,
        (derivation, output): &(String, String),
        numbers: &mut RandomNumbers,
    ) {
        let root = self.store.nix().state_dir().join(format!("gcroots/worker{worker}"));
        symlink(output, &root).unwrap();
        loop {
            let ran = if numbers.below(2) == 0 {
                self.try_to_build(&[derivation, "--no-link"])
            } else {
                Ran::from(self.store.nix().command("nix-store").args(["-r", derivation]).output().unwrap())
            };
            self.wait_for_collections(self.begun.load(Ordering::SeqCst));
            if ran.code == Some(0) {
                self.count(Done::Built);
                let valid = self.store.nix().output("nix-store", ["--check-validity", output]);
                if valid.status.success() {
                    break;
                }
            } else {
                assert!(matches!(ran.code, Some(1 | 100 | 102)), "{ran:?}");
            }
            self.count(Done::Overlooked);
        }
        self.check_whole(output, numbers.below(2) == 0);
        self.wait_for_collections(self.begun.load(Ordering::SeqCst) + 1);
        self.check_whole(output, numbers.below(2) == 0);
        self.count(Done::Kept);
        forget(&root);
    }

    /// Builds something whose root is there before or is made when it is built, then gives it another root and drops the first.
    fn root_after(
        &self,
        worker: usize,
        (derivation, output): &(String, String),
        numbers: &mut RandomNumbers,
    ) {
        let root = self.store.nix().state_dir().join(format!("gcroots/worker{worker}"));
        let [result, second] =
            ["result", "second"].map(|name| self.store.directory().join(format!("{name}{worker}")));
        forget(&second);
        let link = result.to_str().unwrap();
        match numbers.below(4) {
            0 => self.build(&[derivation, "--out-link", link]),
            1 => drop(self.nix_store(true, &["-r", derivation, "--indirect", "--add-root", link])),
            2 => drop(self.nix_store(false, &["-r", derivation, "--indirect", "--add-root", link])),
            _ => {
                symlink(output, &root).unwrap();
                self.build(&[derivation, "--no-link"]);
            }
        }
        self.count(Done::Built);
        self.check_whole(output, numbers.below(2) == 0);
        // One root after the other: at each moment there is one.
        let arguments = ["-r", output, "--indirect", "--add-root", second.to_str().unwrap()];
        self.nix_store(numbers.below(2) == 0, &arguments);
        forget(&root);
        forget(&result);
        self.check_whole(output, numbers.below(2) == 0);
        self.count(Done::Kept);
    }

    fn try_to_build(&self, arguments: &[&str]) -> Ran {
        let optimised = ["--option", "auto-optimise-store", "true"];
        self.store.kiln([&["build"][..], arguments, &optimised].concat())
    }

    fn build(&self, arguments: &[&str]) {
        let ran = self.try_to_build(arguments);
        assert_eq!(ran.code, Some(0), "kiln build {arguments:?}: {}", ran.stderr);
    }

    fn collect(&self, by_kiln: bool) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if by_kiln {
            let ran = self.store.kiln(["gc"]);
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        } else {
            let ran = Ran::from(self.store.nix().command("nix-store").arg("--gc").output().unwrap());
            // It gives up if something came to refer to what it had found dead, or if any process of the machine has a
            // directory with a very long path open, as those of other tests. And rarely the program aborts, it seems by a race
            // of the threads that serve its socket.
            let gives_up = [
                "because it is in use by",
                "File name too long",
                "terminate called without an active exception",
            ]
            .map(|why| ran.stderr.contains(why));
            assert!(ran.code == Some(0) || gives_up.contains(&true), "{}", ran.stderr);
        }
        self.count(Done::Collected);
    }

    /// Everybody works until the time is over; then what has a root is whole.
    fn burn(&self, collector: Collector, duration: Duration, numbers: &mut RandomNumbers) {
        self.is_over.store(false, Ordering::SeqCst);
        let deadline = Instant::now() + duration;
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let mut numbers = RandomNumbers::new(numbers.number());
                scope.spawn(move || {
                    // The others end when one has failed.
                    let _over = Over(&self.is_over);
                    self.work(worker, collector, &mut numbers);
                });
            }
            let _over = Over(&self.is_over);
            let kept = || self.done()[Done::Kept as usize];
            let (mut turn, before) = (0, kept());
            while (Instant::now() < deadline || kept() == before) && !self.is_over() {
                self.collect(match collector {
                    Collector::Kiln => true,
                    Collector::Nix => false,
                    Collector::Both => turn % 2 == 0,
                });
                turn += 1;
            }
        });
        self.store.verify();
        for (_, output) in &self.tops {
            let holds = |root: &Path| fs::read_link(root).is_ok_and(|target| target == Path::new(output));
            let roots = (0..WORKERS).map(|worker| self.store.directory().join(format!("second{worker}")));
            if roots.into_iter().any(|root| holds(&root)) {
                self.check_whole(output, false);
            }
        }
        for worker in 0..WORKERS {
            forget(&self.store.directory().join(format!("second{worker}")));
        }
    }
}

/// Removes a link, if it is there.
fn forget(link: &Path) {
    // That there is none is as good.
    let _ = fs::remove_file(link);
}

/// Says that it is over, also when a test has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn nothing_alive_is_lost() {
    let Some(fire) = Fire::light() else { return };
    let seconds = std::env::var("KILN_FIRE_SECONDS").map_or(SECONDS, |seconds| seconds.parse().unwrap());
    let mut numbers = RandomNumbers::from_environment("KILN_FIRE_SEED");
    for collector in [Collector::Kiln, Collector::Nix, Collector::Both] {
        let before = fire.done();
        fire.burn(collector, Duration::from_secs(seconds) / 3, &mut numbers);
        let done = fire.done();
        let [built, added, kept, collected, overlooked] =
            std::array::from_fn(|what| done[what] - before[what]);
        eprintln!(
            "{collector:?} collected {collected} times: {built} built, {overlooked} overlooked, {kept} kept, {added} added"
        );
        assert!(kept > 0 && collected > 0);
    }
    // Without roots, all is garbage.
    for entry in fs::read_dir(fire.store.directory()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_symlink() && entry.file_name() != "nix-store" {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    fire.collect(true);
    let contents = fire.store.contents();
    assert_eq!((contents.rows.len(), contents.files.len(), contents.locks.len()), (0, 0, 0), "{contents:?}");
}
