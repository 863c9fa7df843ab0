//! Several clients, and clients that go away.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln_testing::{Daemon, Ran, signal};

use super::daemon;

fn start(daemon: &Daemon, arguments: &[&str]) -> Child {
    daemon.client("nix-build").arg("--no-out-link").args(arguments).spawn().unwrap()
}

/// Reads what a client says until a line has come.
fn wait_for_line(client: &mut Child, line: &str) {
    let mut reader = BufReader::new(client.stderr.as_mut().unwrap());
    let mut read = String::new();
    while !read.contains(line) {
        assert!(reader.read_line(&mut read).unwrap() > 0, "{read}");
    }
}

#[test]
fn s1_what_many_want_is_built_once_and_told_to_all() {
    let Some(daemon) = daemon() else { return };
    let clients: Vec<Child> = (0..5).map(|_| start(&daemon, &["-A", "slow"])).collect();
    let ran: Vec<Ran> = clients.into_iter().map(Ran::from).collect();
    for ran in &ran {
        assert!(ran.line().ends_with("-slow-1"), "{}", ran.stdout);
        assert!(ran.stderr.contains("slowly"), "each has the log: {}", ran.stderr);
    }
    let started = ran.iter().map(|ran| ran.stderr.matches("building '").count()).sum::<usize>();
    assert_eq!(started, 5, "one build, told to each");
}

/// Ctrl-C, also while the builder says nothing.
#[test]
fn s12_a_client_that_goes_away_ends_its_builds_at_once() {
    let Some(daemon) = daemon() else { return };
    for signal_name in ["INT", "KILL"] {
        let mut client = start(&daemon, &["-A", "silent"]);
        daemon.wait_until("a builder", || !daemon.builders().is_empty());
        let begin = Instant::now();
        signal(signal_name, client.id());
        client.wait().unwrap();
        daemon.wait_until("no builder", || daemon.builders().is_empty());
        // The builder would sleep for ten minutes.
        assert!(begin.elapsed() < Duration::from_secs(60), "{signal_name}: {:?}", begin.elapsed());
    }
    assert_eq!(daemon.build(&["a"]).len(), 1);
}

#[test]
fn what_another_client_wants_goes_on() {
    let Some(daemon) = daemon() else { return };
    let mut first = start(&daemon, &["-A", "slow"]);
    wait_for_line(&mut first, "slowly");
    let mut second = start(&daemon, &["-A", "slow"]);
    wait_for_line(&mut second, "building '");
    signal("KILL", first.id());
    first.wait().unwrap();
    assert_eq!(Ran::from(second).lines().len(), 1);
    assert!(daemon.builders().is_empty());
}

#[test]
fn temporary_roots_go_with_their_client() {
    let Some(daemon) = daemon() else { return };
    let out = daemon.build(&["a"]).remove(0);
    let file = daemon.nix().state_dir().join(format!("temproots/{}", daemon.pid()));
    let live = || {
        let roots = fs::read(&file).unwrap_or_default();
        let roots = String::from_utf8_lossy(&roots).into_owned();
        roots
            .split_terminator('\0')
            .filter(|root| !root.contains("/00000000000000000000000000000000-"))
            .count()
    };
    daemon.wait_until("no roots", || live() == 0);
    let mut client = start(&daemon, &["-A", "silent"]);
    daemon.wait_until("roots", || live() > 0);
    signal("KILL", client.id());
    client.wait().unwrap();
    daemon.wait_until("no roots", || live() == 0);
    // Whatever was being done for them when they went.
    for milliseconds in (0..120).step_by(6) {
        let mut client = start(&daemon, &["-A", "silent"]);
        sleep(Duration::from_millis(milliseconds));
        signal("KILL", client.id());
        client.wait().unwrap();
    }
    daemon.wait_until("no roots", || live() == 0);
    assert!(fs::exists(out).unwrap());
}

/// Real Nix works on the same store at the same time, without the daemon.
#[test]
fn nix_may_use_the_store_beside_the_daemon() {
    let Some(daemon) = daemon() else { return };
    let derivation = daemon.instantiate("big");
    let client = start(&daemon, &["-A", "big", "-j4"]);
    let direct = daemon.nix().command("nix-store").args(["-r", &derivation]).output().unwrap();
    let ran = Ran::from(client);
    assert_eq!(ran.lines(), String::from_utf8_lossy(&direct.stdout).lines().collect::<Vec<_>>());
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
}
