//! Streams of `--log-format internal-json`, which other programs read: what begins, on top of what, what is reported of it, and
//! that it ends.

use std::collections::BTreeMap;

use kiln_testing::{Daemon, NewerNix, Server};
use serde_json::Value;

use super::{daemon, each_release};

/// What is begun, each after those before it.
const SCRIPTS: &[&str] = &[
    "nix-build -A b --no-out-link",
    "nix-build more.nix -A odd-lines -A user --no-out-link",
    "nix build -f . lines fod --no-link",
    "nix build -f . big --no-link",
    "nix build -f . fail --no-link",
    "nix-build -A depfail --no-out-link",
    "nix build -f . badfod --no-link",
    "nix build -f more.nix imported --no-link",
    "nix-build -A a --check --no-out-link",
    "nix-build -A b --no-out-link",
    "nix copy --to file://$PWD/cache -f . b",
    "nix-collect-garbage",
    "nix build -f . b --no-link --option substituters file://$PWD/cache --option narinfo-cache-negative-ttl 0",
];

/// Names in internal-json of what is told of other things than builds and copies, or at moments that are a daemon's own choice.
const UNKNOWN: u64 = 0;
const FILE_TRANSFER: u64 = 101;
const SUBSTITUTE: u64 = 108;
const QUERY_PATH_INFO: u64 = 109;
const PROGRESS: u64 = 105;
const EXPECTED: u64 = 106;

/// The lines of a stream, each as one that does not depend on names of activities and on time.
fn structure(daemon: &Daemon, nix: &NewerNix, server: Server, script: &str) -> Vec<String> {
    let ran = nix.script(daemon, server, &format!("{script} --log-format internal-json -v"));
    let is_compared = |kind: u64| ![UNKNOWN, FILE_TRANSFER, SUBSTITUTE, QUERY_PATH_INFO].contains(&kind);
    let mut begun: BTreeMap<u64, (u64, String)> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in ran.stderr.lines() {
        let Some(json) = line.strip_prefix("@nix ") else {
            lines.push(format!("no record: {line}"));
            continue;
        };
        let record: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {line}"));
        let number = |name: &str| record[name].as_u64().unwrap_or_default();
        match record["action"].as_str().unwrap() {
            "start" => {
                let parent = begun.get(&number("parent")).filter(|(kind, _)| is_compared(*kind));
                let parent = parent.map_or("nothing", |(_, name)| name.as_str());
                let name = format!("{} {} {}", record["type"], record["text"], record["fields"]);
                if is_compared(number("type")) {
                    lines.push(format!("start {name} level {} below {parent}", record["level"]));
                }
                let before = begun.insert(number("id"), (number("type"), name));
                assert!(before.is_none(), "begun twice: {line}");
            }
            "stop" => {
                let stopped = begun.remove(&number("id"));
                let (kind, name) = stopped.unwrap_or_else(|| panic!("never begun: {line}"));
                if is_compared(kind) {
                    lines.push(format!("stop {name}"));
                }
            }
            "result" => {
                let known = begun.get(&number("id"));
                let (kind, name) = known.unwrap_or_else(|| panic!("never begun: {line}"));
                if is_compared(*kind) && ![PROGRESS, EXPECTED].contains(&number("type")) {
                    lines.push(format!("result {} {} of {name}", record["type"], record["fields"]));
                }
            }
            // Their words are the daemon's own, and are compared elsewhere.
            "msg" => {}
            _ => panic!("{line}"),
        }
    }
    assert!(begun.is_empty(), "never ended: {begun:?}");
    lines
}

#[test]
fn newer_clients_show_the_streams_of_their_own_daemon() {
    each_release(|nix| {
        let Some(daemon) = daemon("require-sigs = false\n") else { return };
        let _own = nix.start_daemon(&daemon);
        for script in SCRIPTS {
            let [kiln, own] = [Server::Kiln, Server::Own].map(|server| {
                let mut lines = structure(&daemon, nix, server, script);
                // Only what depends on each other has an order.
                lines.sort();
                lines
            });
            assert!(
                kiln == own,
                "{}: {script}\n# Kiln:\n{}\n# Nix:\n{}",
                nix.release(),
                kiln.join("\n"),
                own.join("\n")
            );
        }
    });
}
