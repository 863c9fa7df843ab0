//! Many clients at once for a while, of whom some do harm: nothing is lost, and the daemon does not grow.
//!
//! `KILN_LOAD_SECONDS` makes it longer, `KILN_LOAD_CLIENTS` gives it more or fewer clients; what was measured is printed.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kiln_testing::{Daemon, Ran, signal};

use super::{daemon, memory, peak_memory};

/// How long the load lasts, unless somebody wants it longer.
const SECONDS: u64 = 6;

/// How many clients there are at once, unless somebody wants others.
const CLIENTS: u64 = 40;

/// How many of its links a client keeps, so that the store does not grow for ever.
const KEPT: usize = 5;

/// The most that memory may become, in MiB, above what it was soon after the beginning: in a long load, and in a short one,
/// which never gets beyond the beginning.
const MORE: [f64; 2] = [12.0, 40.0];

/// From how many seconds on it can be told how memory grows.
const LONG: u64 = 120;

/// The most that it may grow then, in MiB per minute.
const GROWTH: f64 = 1.0;

/// A derivation for each number.
const EXPRESSION: &str = r#"{ number }:
let a = (import ./default.nix).a; in
{
  one = derivation {
    name = "one-${number}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-ec" "read line < ${a}; echo $line ${number}; echo ${a} ${number} > $out" ];
    PATH = "/usr/bin:/bin";
  };
}
"#;

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// What clients have done.
struct Load<'a> {
    daemon: &'a Daemon,
    until: Instant,
    /// Numbers nobody has had yet.
    next: AtomicUsize,
    /// Commands that have ended well.
    done: AtomicUsize,
}

impl<'a> Load<'a> {
    fn new(daemon: &'a Daemon, seconds: u64) -> Self {
        daemon.write("numbered.nix", EXPRESSION);
        let until = Instant::now() + Duration::from_secs(seconds);
        Self { daemon, until, next: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn next(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let ran = self.daemon.run(program, arguments);
        assert_eq!(ran.code, Some(0), "{program} {arguments:?}: {}", ran.stderr);
        self.done.fetch_add(1, Ordering::Relaxed);
        ran
    }

    /// Builds something that nobody else builds, and keeps it; the link.
    fn build_and_keep(&self) -> PathBuf {
        let number = self.next().to_string();
        let link = self.daemon.path(&format!("link-{number}"));
        let link_text = link.to_str().unwrap();
        self.run("nix-build", &["numbered.nix", "-A", "one", "--argstr", "number", &number, "-o", link_text]);
        assert!(fs::read_to_string(&link).unwrap().ends_with(&format!(" {number}\n")));
        link
    }

    /// What the client with this index does over and over; links that it has left.
    fn client(&self, index: u64) -> Vec<PathBuf> {
        let mut links = Vec::new();
        while !self.is_over() {
            while links.len() > KEPT {
                fs::remove_file(links.remove(0)).unwrap();
            }
            match index % 10 {
                0..=3 => links.push(self.build_and_keep()),
                // The same for all.
                4 => drop(self.run("nix-build", &["-A", "big", "-A", "b", "-j4", "--no-out-link"])),
                5 => {
                    let name = format!("file-{}", self.next());
                    let file = self.daemon.write(&name, name.repeat(5000));
                    self.run("nix-store", &["--add", file.to_str().unwrap()]);
                }
                6 => {
                    let link = self.build_and_keep();
                    self.run("nix-store", &["-q", "--roots", links_target(&link).as_str()]);
                    links.push(link);
                }
                7 => {
                    let kept = self.build_and_keep();
                    let link = kept.to_str().unwrap();
                    self.run("nix", &["path-info", "-rsSh", "--json", link]);
                    self.run("nix-store", &["-q", "--requisites", "--include-outputs", link]);
                    links.push(kept);
                }
                8 => {
                    // What is a root no more is garbage, which others collect.
                    fs::remove_file(self.build_and_keep()).unwrap();
                    self.run("nix-store", &["--gc"]);
                }
                _ => self.do_harm(),
            }
        }
        links
    }

    /// Nonsense, requests that end in the middle, payloads that never come, builds that are given up.
    fn do_harm(&self) {
        let words =
            |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|word| word.to_le_bytes()).collect() };
        let greeting = [0x6e69_7863, 1 << 8 | 34, 0, 0];
        for session in [
            words(&[u64::MAX; 500]),
            words(&greeting),
            words(&[&greeting[..], &[9, 1 << 40]].concat()),
            [words(&[&greeting[..], &[7, 1]].concat()), b"x\0\0\0\0\0\0\0".to_vec(), words(&[12])].concat(),
            words(&[&greeting[..], &[44, 0, 0, 1 << 31]].concat()),
        ] {
            if let Ok(mut stream) = UnixStream::connect(self.daemon.socket()) {
                let _ = stream.write_all(&session);
            }
        }
        let number = format!("given-up-{}", self.next());
        let mut client = self.daemon.client("nix-build");
        client.args(["-A", "silent", "--no-out-link", "--argstr", "ignored", &number]);
        let mut client = client.spawn().unwrap();
        thread::sleep(Duration::from_millis(150));
        signal("KILL", client.id());
        client.wait().unwrap();
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

fn links_target(link: &PathBuf) -> String {
    fs::read_link(link).unwrap().to_str().unwrap().to_owned()
}

/// Nothing that was kept is lost or damaged, as real Nix sees it without the daemon.
fn check(daemon: &Daemon, links: &[PathBuf]) {
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
    for links in links.chunks(200) {
        daemon.nix().run(
            "nix-store",
            ["--check-validity".to_owned()].into_iter().chain(links.iter().map(links_target)),
        );
    }
}

/// What the daemon had in memory, in MiB, and how many seconds after the beginning.
type Sample = (f64, f64);

/// Looks at the daemon's memory as long as the load lasts.
fn watch(load: &Load<'_>) -> Vec<Sample> {
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while !load.is_over() {
        thread::sleep(Duration::from_millis(500));
        samples.push((begin.elapsed().as_secs_f64(), memory(load.daemon) as f64));
    }
    samples
}

/// How the memory grows, in MiB per minute: the slope of the line that lies closest to all samples.
fn growth(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let (times, sizes) =
        samples.iter().fold((0.0, 0.0), |sums, sample| (sums.0 + sample.0, sums.1 + sample.1));
    let (time, size) = (times / count, sizes / count);
    let product: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - size)).sum();
    let square: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
    60.0 * product / square
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured has to be said")]
fn many_clients_lose_nothing_and_the_daemon_does_not_grow() {
    let Some(daemon) = daemon() else { return };
    let (seconds, clients) = (number("KILN_LOAD_SECONDS", SECONDS), number("KILN_LOAD_CLIENTS", CLIENTS));
    let before = memory(&daemon);
    let load = Load::new(&daemon, seconds);
    let (kept, samples) = thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&load));
        let client = |index| {
            let load = &load;
            scope.spawn(move || load.client(index))
        };
        let threads: Vec<_> = (0..clients).map(client).collect();
        let kept: Vec<PathBuf> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (kept, watch.join().unwrap())
    });
    daemon.wait_until("no builder", || daemon.builders().is_empty());
    // It takes a while until there is of everything as much as there will be.
    let warm_up = seconds as f64 / 3.0;
    let warm: Vec<Sample> = samples.into_iter().filter(|sample| sample.0 > warm_up).collect();
    let early = warm.iter().take(warm.len().div_ceil(4)).map(|sample| sample.1).fold(0.0, f64::max);
    let (most, growth) = (warm.iter().map(|sample| sample.1).fold(0.0, f64::max), growth(&warm));
    eprintln!(
        "{clients} clients for {seconds} s, {} commands; memory {before} MiB before, {early} at most soon after the first \
         {warm_up} s, {most} later, growing by {growth:.2} a minute; {} at the end, {} ever",
        load.done.load(Ordering::Relaxed),
        memory(&daemon),
        peak_memory(&daemon)
    );
    assert!(!kept.is_empty());
    check(&daemon, &kept);
    let is_long = seconds >= LONG;
    let more = MORE[usize::from(!is_long)];
    assert!(most < early + more, "it grows from {early} MiB to {most} MiB");
    assert!(!is_long || growth < GROWTH, "it grows by {growth} MiB a minute");
    assert_eq!(daemon.build(&["a"]).len(), 1);
}

#[test]
fn a_daemon_that_is_killed_under_load_loses_nothing() {
    let Some(mut daemon) = daemon() else { return };
    daemon.write("numbered.nix", EXPRESSION);
    let kept = {
        let load = Load::new(&daemon, 60);
        (0..3).map(|_| load.build_and_keep()).collect::<Vec<_>>()
    };
    let build = |number: usize| -> Command {
        let mut client = daemon.client("nix-build");
        let number = format!("killed-{number}");
        client.args([
            "-E",
            "builtins.trace \"\" (import ./default.nix)",
            "-A",
            "big",
            "-A",
            "silent",
            "-j8",
            "-o",
            &number,
        ]);
        client
    };
    let clients: Vec<_> = (0..20).map(|number| build(number).spawn().unwrap()).collect();
    daemon.wait_until("builders", || !daemon.builders().is_empty());
    thread::sleep(Duration::from_millis(300));
    daemon.kill();
    for client in clients {
        let ran = Ran::from(client);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("error:"), "{}", ran.stderr);
    }
    daemon.wait_until("no builder", || daemon.builders().is_empty());
    daemon.start(&[]);
    check(&daemon, &kept);
    assert_eq!(daemon.build(&["big"]).len(), 1);
    check(&daemon, &kept);
}
