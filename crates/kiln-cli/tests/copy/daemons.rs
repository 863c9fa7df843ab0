//! Stores behind daemons, those of real Nix and of Kiln, as ends of copies and as substituters.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln_testing::{Ran, signal};

use crate::world::{World, check_cache};

const KILN: &str = env!("CARGO_BIN_EXE_kiln");

/// Whose daemons are met.
pub(crate) const DAEMONS: [&str; 2] = ["nix-daemon", KILN];

/// How long a daemon may take to begin on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that serves another store; ended with this value.
pub(crate) struct Served {
    process: Child,
    socket: PathBuf,
}

impl Served {
    /// A daemon, real Nix's or Kiln's, of the other store with this name, with more settings.
    pub(crate) fn start(world: &World, program: &str, name: &str, settings: &str) -> Self {
        let socket = world.place(name).join("socket");
        std::fs::create_dir_all(world.place(name)).unwrap();
        // Real Nix trusts root alone otherwise, whoever runs it.
        let settings = format!("trusted-users = *\n{settings}");
        let mut command = with_settings(world, program, name, &settings);
        if program == KILN {
            command.arg("daemon");
        } else {
            // Two connections at once to a store that isn't there yet: one of them fails.
            let made = with_settings(world, "nix-store", name, &settings).arg("--init").status();
            assert!(made.unwrap().success());
        }
        let log = std::fs::File::create(world.place(name).join("daemon.log")).unwrap();
        command.env("NIX_DAEMON_SOCKET_PATH", &socket).stdout(Stdio::null()).stderr(log);
        let served = Self { process: command.spawn().unwrap(), socket };
        let begin = Instant::now();
        while UnixStream::connect(&served.socket).is_err() {
            assert!(begin.elapsed() < PATIENCE, "the daemon does not listen");
            sleep(Duration::from_millis(5));
        }
        served
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        signal("TERM", self.process.id());
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.socket.with_file_name("daemon.log"));
            eprintln!("the log of the daemon: {}", log.unwrap_or_default());
        }
    }
}

/// A program that works on the other store with this name.
pub(crate) fn with_settings(world: &World, program: &str, name: &str, settings: &str) -> Command {
    let mut command = world.store.nix().command(program);
    let of_nix = command.get_envs().find(|(name, _)| *name == "NIX_CONFIG").and_then(|(_, value)| value);
    let all = format!("{}\n{settings}\n", of_nix.unwrap().to_str().unwrap());
    command.env("NIX_CONFIG", all).env("NIX_REMOTE", world.other_store(name));
    command
}

/// Runs Kiln on the other store with this name.
fn on_other(world: &World, name: &str, arguments: &[&str]) -> Ran {
    with_settings(world, KILN, name, "substitute = true").args(arguments).output().unwrap().into()
}

#[test]
fn paths_go_to_a_daemon_and_come_from_it() {
    for program in DAEMONS {
        let Some(world) = World::new() else { return };
        let served = Served::start(&world, program, "other", "");
        let url = served.url();
        let refused = world.store.kiln(["copy", "--to", &url, &world.top]);
        assert!(refused.failed(1).contains("lacks a "), "{program}: {}", refused.stderr);
        let ran = world.copy(&["--to", &url, "--no-check-sigs", &world.top]);
        assert!(ran.stderr.contains("3 paths copied"), "{}", ran.stderr);
        for path in &world.closure {
            world.same(path.as_ref(), &world.in_other_store("other", path));
        }
        let again = world.copy(&["--to", &url, "--no-check-sigs", &world.top]);
        assert!(again.stderr.contains("0 paths copied (0.00 MiB), 3 there already"), "{}", again.stderr);

        let third = world.other_store("third");
        world.copy(&["--from", &url, "--to", &third, "--no-check-sigs", &world.top]);
        for path in &world.closure {
            world.same(path.as_ref(), &world.in_other_store("third", path));
        }
        let listed = world.nix(&["path-info", "--store", &third, "--all"]);
        assert_eq!(listed.lines().count(), world.closure.len());
        world.copy(&["--from", &url, "--to", &world.cache("cache", "compression=none"), "--all"]);
        assert_eq!(check_cache(&world.place("cache")), 3);
        let unknown =
            format!("{}/00000000000000000000000000000000-x", world.store.nix().store_dir().display());
        let missing = world.store.kiln(["copy", "--from", &url, "--to", &third, &unknown]);
        assert!(missing.failed(1).contains("is not valid in 'unix://"), "{}", missing.stderr);
    }
}

#[test]
fn paths_go_from_one_daemon_to_another() {
    let Some(world) = World::new() else { return };
    let [of_nix, of_kiln] = DAEMONS.map(|program| {
        let name = if program == KILN { "kilns" } else { "nixs" };
        Served::start(&world, program, name, "require-sigs = false")
    });
    world.copy(&["--to", &of_nix.url(), &world.top]);
    world.copy(&["--from", &of_nix.url(), "--to", &of_kiln.url(), &world.top]);
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("kilns", path));
    }
    let listed = world.nix(&["path-info", "--store", &of_kiln.url(), "--all"]);
    assert_eq!(listed.lines().count(), world.closure.len());
}

#[test]
fn a_source_that_was_changed_behind_a_daemon_is_noticed() {
    for program in DAEMONS {
        let Some(world) = World::new() else { return };
        let served = Served::start(&world, program, "other", "");
        world.copy(&["--to", &served.url(), "--no-check-sigs", &world.top]);
        let lib = world.closure.iter().find(|path| path.ends_with("-lib")).unwrap();
        let file = world.in_other_store("other", lib);
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "bad\n").unwrap();
        let third = world.other_store("third");
        let from = served.url();
        let ran = world.store.kiln(["copy", "--from", &from, "--to", &third, "--no-check-sigs", &world.top]);
        assert!(ran.failed(1).contains("hash mismatch"), "{program}: {}", ran.stderr);
        assert!(!world.in_other_store("third", lib).exists());
    }
}

#[test]
fn daemons_tell_what_they_are() {
    for program in DAEMONS {
        let Some(world) = World::new() else { return };
        let served = Served::start(&world, program, "other", "");
        let ran = world.store.kiln(["store", "ping", "--json", &served.url()]);
        let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect(&ran.stderr);
        assert_eq!(told["url"], served.url());
        assert_eq!(told["storeDir"], world.store.nix().store_dir().display().to_string());
        let protocol = told["protocol"].as_str().unwrap();
        if program == KILN {
            assert_eq!((protocol, told["trusted"].as_bool()), ("1.38", Some(true)));
        } else {
            assert!(protocol.starts_with("1.3") && told["version"].is_string(), "{told}");
        }
        drop(served);
        let gone = world.store.kiln(["store", "ping", &format!("unix://{}", world.place("none").display())]);
        assert!(gone.failed(1).contains("cannot connect to the daemon at 'unix://"), "{}", gone.stderr);
    }
}

#[test]
fn what_a_daemon_has_is_substituted() {
    for program in DAEMONS {
        let Some(world) = World::new() else { return };
        let served = Served::start(&world, program, "other", "");
        world.copy(&["--to", &served.url(), "--no-check-sigs", &world.top]);
        let build = |name: &str, url: &str| {
            let arguments = ["build", "--no-link", "--option", "substituters", url, &world.top];
            on_other(&world, name, &arguments)
        };
        let unsigned = build("third", &served.url());
        assert!(
            unsigned.failed(1).contains("does not have a valid signature"),
            "{program}: {}",
            unsigned.stderr
        );
        let trusted = build("third", &(served.url() + "?trusted=true"));
        assert_eq!(trusted.line(), world.top, "{program}: {}", trusted.stderr);
        assert!(trusted.stderr.contains(&format!("from '{}'", served.url())), "{}", trusted.stderr);
        for path in &world.closure {
            world.same(path.as_ref(), &world.in_other_store("third", path));
        }
        // One that is gone is said to be, and holds up nobody.
        let url = served.url();
        drop(served);
        let gone = build("fourth", &url);
        assert!(gone.failed(1).contains("cannot connect to the daemon"), "{}", gone.stderr);
    }
}

#[test]
fn the_destination_substitutes_what_it_can() {
    for program in DAEMONS {
        let Some(world) = World::new() else { return };
        let cache = world.cache("cache", "");
        world.copy(&["--to", &cache, &world.top]);
        let settings = format!(
            "substitute = true\nsubstituters = file://{}?trusted=true",
            world.place("cache").display()
        );
        let served = Served::start(&world, program, "other", &settings);
        let to = ["--no-check-sigs", "--substitute-on-destination", "--to"];
        let ran = world.copy(&[&to[..], &[&served.url(), &world.top]].concat());
        assert!(
            ran.stderr.contains("0 paths copied (0.00 MiB), 3 there already"),
            "{program}: {}",
            ran.stderr
        );
        for path in &world.closure {
            world.same(path.as_ref(), &world.in_other_store("other", path));
        }
    }
}

#[test]
fn a_local_destination_substitutes_what_it_can() {
    let Some(world) = World::new() else { return };
    let cache = world.cache("cache", "");
    // The other one has to be copied.
    let lib = world.closure.iter().find(|path| path.ends_with("-lib")).unwrap();
    world.copy(&["--to", &cache, lib]);
    let third = world.other_store("third");
    let substituter = format!("file://{}?trusted=true", world.place("cache").display());
    let arguments =
        ["copy", "-s", "--no-check-sigs", "--to", &third, &world.top, "--substituters", &substituter];
    let ran = Ran::from(
        world
            .store
            .nix()
            .command(KILN)
            .args(arguments)
            .args(["--option", "substitute", "true"])
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("2 paths copied"), "{}", ran.stderr);
    for path in &world.closure {
        world.same(path.as_ref(), &world.in_other_store("third", path));
    }
    let refused = world.store.kiln(["copy", "-s", "--to", &cache, &world.top]);
    assert!(refused.failed(1).contains("needs a store"), "{}", refused.stderr);
}
