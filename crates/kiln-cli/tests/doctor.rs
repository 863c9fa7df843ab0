//! `kiln doctor` on machines that are well and on others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kiln_testing::Daemon;
use serde_json::Value;

const KILN: &str = env!("CARGO_BIN_EXE_kiln");

/// Exit code, and findings.
fn doctor(daemon: &Daemon) -> (i32, Vec<Value>) {
    let command = daemon.daemon_command();
    let mut doctor = Command::new(command.get_program());
    doctor.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = doctor.args(["doctor", "--json"]).stdin(Stdio::null()).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), told["findings"].as_array().unwrap().clone())
}

fn has(findings: &[Value], area: &str, level: &str, text: &str) -> bool {
    let says = |finding: &Value| finding["text"].as_str().unwrap().contains(text);
    findings.iter().any(|finding| finding["area"] == area && finding["level"] == level && says(finding))
}

/// Every file of a store and its state, with when its contents or attributes changed. Temporary files are nobody's loss.
fn state(directory: &Path) -> BTreeMap<PathBuf, (i64, i64, u64)> {
    let mut state = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        if path == directory.join("tmp") {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).unwrap();
        state.insert(path.clone(), (metadata.ctime(), metadata.ctime_nsec(), metadata.size()));
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    state
}

#[test]
fn a_machine_that_is_well_is_told_so_and_nothing_changes() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    daemon.start(&[]);
    daemon.build(&["a"]);
    assert_eq!(daemon.stop(), Some(0));
    let before = state(&daemon.path("root"));
    let (_, findings) = doctor(&daemon);
    assert_eq!(state(&daemon.path("root")), before);
    assert!(has(&findings, "Database", "ok", "schema 10, "), "{findings:?}");
    assert!(has(&findings, "Sandbox", "ok", "a build in a sandbox has succeeded"), "{findings:?}");
    assert!(has(&findings, "Daemon", "note", "no daemon listens at"), "{findings:?}");
    assert!(has(&findings, "Machines", "ok", "there are none"), "{findings:?}");
    let socket = format!("unix://{}", daemon.socket().display());
    daemon.configure(&format!("builders = {socket} ; /a/store"));
    daemon.start(&[]);
    let (_, findings) = doctor(&daemon);
    assert!(has(&findings, "Daemon", "ok", "version 2.34.8"), "{findings:?}");
    assert!(has(&findings, "Machines", "ok", &format!("'{socket}' answers after ")), "{findings:?}");
    assert!(has(&findings, "Machines", "ok", "(Nix 2.34.8)"), "{findings:?}");
    assert!(has(&findings, "Machines", "ok", "'/a/store' is a store of this machine"), "{findings:?}");
    assert!(!Path::new("/a/store").exists());
}

#[test]
fn what_is_wrong_is_found() {
    let Some(mut daemon) = Daemon::find(KILN) else { return };
    daemon.start(&[]);
    daemon.build(&["a"]);
    daemon.kill();
    daemon.configure(
        "nonsense = 1\nbuild-cores = 1\ntrusted-users = * nobody-at-all\nsubstituters = http://127.0.0.1:1 bad://url\n\
         trusted-public-keys = garbage\nrequire-sigs = false\n\
         builders = ssh://localhost?remote-program=/none ; https://cache.example\n",
    );
    fs::set_permissions(daemon.nix().store_dir(), Permissions::from_mode(0o777)).unwrap();
    let database = daemon.nix().state_dir().join("db/db.sqlite");
    let mut bytes = fs::read(&database).unwrap();
    bytes[4096..4400].fill(0x5a);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(daemon.nix().state_dir().join(format!("db/db.sqlite{suffix}")));
    }
    fs::write(&database, bytes).unwrap();
    let (code, findings) = doctor(&daemon);
    assert_eq!(code, 1);
    for (area, level, text) in [
        ("Settings", "warning", "unknown setting 'nonsense'"),
        ("Settings", "note", "'build-cores' is an older name of the setting 'cores'"),
        ("Settings", "warning", "'trusted-users' has '*'"),
        ("Settings", "note", "'nobody-at-all'"),
        ("Settings", "problem", "'garbage', which is no key"),
        ("Settings", "warning", "'require-sigs = false'"),
        ("Store", "problem", "everybody can write to"),
        ("Database", "problem", ""),
        ("Daemon", "problem", "no daemon listens"),
        ("Binary caches", "warning", "'http://127.0.0.1:1' cannot be used"),
        ("Binary caches", "problem", "bad://url"),
        ("Machines", "warning", "cannot run '/none'"),
        ("Machines", "problem", "builds cannot be sent to 'https://cache.example'"),
    ] {
        assert!(has(&findings, area, level, text), "{area} {level} {text}: {findings:#?}");
    }
    // The settings cannot be read at all: the rest is looked at nevertheless.
    daemon.configure("cores = many\n");
    let (code, findings) = doctor(&daemon);
    assert_eq!(code, 1);
    assert!(has(&findings, "Settings", "problem", "cores"), "{findings:?}");
    assert!(has(&findings, "Clock", "ok", ""), "{findings:?}");
}
