//! Those who watch: metrics, health, status, and `kiln top`.

mod terminal;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kiln_testing::{Daemon, Ran};

use crate::KILN;

/// A daemon that is watched at a socket and at an address.
struct Watched {
    daemon: Daemon,
    socket: PathBuf,
    address: String,
}

impl Watched {
    fn start() -> Option<Self> {
        let mut daemon = Daemon::find(KILN)?;
        let socket = daemon.path("watch");
        daemon.configure(&format!(
            "max-jobs = 1\nkiln-metrics-listen = unix:{} 127.0.0.1:0\n",
            socket.display()
        ));
        daemon.start(&[]);
        daemon.wait_until("the places", || daemon.log().contains("status are at"));
        let log = daemon.log();
        let address = log.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();
        let address = address.trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned();
        Some(Self { daemon, socket, address })
    }

    /// Status and body of an answer at the socket.
    fn get(&self, target: &str) -> (u16, String) {
        got(UnixStream::connect(&self.socket).unwrap(), target)
    }

    fn metric(&self, line: &str) -> bool {
        self.get("/metrics").1.lines().any(|found| found == line)
    }

    fn top(&self, arguments: &[&str]) -> Ran {
        let command = self.daemon.daemon_command();
        let mut top = Command::new(command.get_program());
        top.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ran::from(top.arg("top").args(arguments).stdin(Stdio::null()).output().unwrap())
    }
}

fn got(mut stream: impl Read + Write, target: &str) -> (u16, String) {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn who_watches_sees_who_builds_what() {
    let Some(watched) = Watched::start() else { return };
    let daemon = &watched.daemon;
    assert_eq!(fs::metadata(&watched.socket).unwrap().mode() & 0o777, 0o660);
    let mut building = daemon.client("nix-build").args(["-A", "slow", "--no-out-link"]).spawn().unwrap();
    let mut status = serde_json::Value::Null;
    daemon.wait_until("the line of the log", || {
        status = serde_json::from_str(&watched.get("/status").1).unwrap();
        status["work"].as_array().unwrap().iter().any(|work| work["last_line"] == "slowly")
    });
    let work = &status["work"][0];
    assert!(work["path"].as_str().unwrap().ends_with("-slow-1.drv"), "{status}");
    assert_eq!(work["kind"], "build");
    let client = &status["connections"][0];
    assert_eq!(work["connections"], serde_json::json!([client["id"]]));
    assert_eq!(client["request"]["operation"], "BuildPaths");
    assert_eq!(client["request"]["builds"]["running"], 1, "{status}");
    assert_eq!(status["build_slots"], serde_json::json!({ "used": 1, "total": 1, "waiting": 0 }));
    let mut waiting = daemon.client("nix-build").args(["-A", "lines", "--no-out-link"]).spawn().unwrap();
    daemon.wait_until("one that waits", || watched.metric("kiln_daemon_jobs_waiting{kind=\"build\"} 1"));
    let shown = watched.top(&["--once"]).lines().join("\n");
    assert!(shown.contains("slow-1") && shown.contains("slowly") && shown.contains("BuildPaths"), "{shown}");
    assert!(shown.contains("WAITING FOR A SLOT") && shown.contains("lines-1"), "{shown}");
    let by_socket = watched.top(&["--json", "--socket", watched.socket.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&by_socket.lines().join("\n")).unwrap();
    assert_eq!(json["queue"][0]["is_build"], true, "{json}");
    assert!(building.wait().unwrap().success() && waiting.wait().unwrap().success());
    let metrics = watched.get("/metrics").1;
    for line in [
        "kiln_daemon_builds_total{place=\"here\",status=\"Built\"} 2",
        "kiln_daemon_build_duration_seconds_count 2",
        "kiln_daemon_slots{kind=\"build\"} 1",
        "kiln_daemon_slots_used{kind=\"build\"} 0",
        "kiln_daemon_collections_total 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    let idle: serde_json::Value = serde_json::from_str(&watched.get("/status").1).unwrap();
    assert_eq!(idle["work"], serde_json::json!([]));
}

#[test]
fn an_address_tells_no_names() {
    let Some(watched) = Watched::start() else { return };
    let get = |target: &str| got(TcpStream::connect(&watched.address).unwrap(), target);
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    let (status, text) = get("/status");
    assert!(status == 403 && text.contains("kiln-metrics-listen = unix:PATH"), "{text}");
    assert_eq!(get("/metrics").0, 200);
    assert_eq!(get("/other").0, 404);
    // The one that looked whether it listens may not be noticed to be gone yet.
    let nobody = || watched.metric("kiln_daemon_open_connections 0");
    watched.daemon.wait_until("that nobody is connected", nobody);
}

#[test]
fn a_store_that_does_not_answer_is_not_healthy() {
    let Some(watched) = Watched::start() else { return };
    let database = watched.daemon.nix().state_dir().join("db/db.sqlite");
    let away = database.with_extension("away");
    fs::rename(&database, &away).unwrap();
    fs::write(&database, "this is no database, but it is long enough to look like one ".repeat(100)).unwrap();
    let (status, text) = watched.get("/healthz");
    assert!(status == 503 && text.contains("the store does not answer"), "{status} {text}");
    fs::rename(&away, &database).unwrap();
    assert_eq!(watched.get("/healthz").0, 200);
}

#[test]
fn nobody_is_told_anything_unless_the_settings_say_so() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    daemon.start(&[]);
    assert!(!daemon.log().contains("status are at"));
    let watched = Watched { socket: daemon.path("watch"), address: String::new(), daemon };
    let told = watched.top(&["--once"]);
    assert!(told.failed(1).contains("kiln-metrics-listen"), "{}", told.stderr);
    let told = watched.top(&["--once", "--socket", watched.socket.to_str().unwrap()]);
    assert!(told.failed(1).contains("cannot connect"), "{}", told.stderr);
}
