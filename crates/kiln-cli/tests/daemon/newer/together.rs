//! Clients of all releases at the same time.

use std::process::Child;

use kiln_testing::{NewerNix, Ran, Server};

use super::daemon;

/// What each client does, all of it also being done by others.
const SCRIPTS: [&str; 4] = [
    "nix-build -A big --no-out-link -j4",
    "nix-build more.nix -A imported -A user -A of-sources --no-out-link",
    "nix-build -A slow --no-out-link && nix-store -q --requisites $(nix-instantiate -A b) | sort",
    "nix-build -A fail --no-out-link; nix-store --add tree && nix-store --check-validity $(nix-build -A b --no-out-link)",
];

#[test]
fn newer_and_older_clients_work_together() {
    let releases = NewerNix::find();
    if releases.is_empty() {
        return;
    }
    let Some(daemon) = daemon("") else { return };
    let home = daemon.path("root/home");
    for round in 0..2 {
        let mut clients: Vec<(&str, Child)> = Vec::new();
        for script in SCRIPTS {
            for nix in &releases {
                let mut client = nix.client(&daemon, Server::Kiln, "/bin/sh");
                clients.push((script, client.args(["-c", script]).spawn().unwrap()));
            }
            let mut client = daemon.client("/bin/sh");
            clients.push((script, client.current_dir(&home).args(["-c", script]).spawn().unwrap()));
        }
        let mut printed: Vec<(&str, String)> = Vec::new();
        for (script, client) in clients {
            let ran = Ran::from(client);
            assert_eq!(ran.code, Some(0), "round {round}: {script}: {}", ran.stderr);
            printed.push((script, ran.stdout));
        }
        // Systems have their own shells, but that is not part of any path.
        for (script, stdout) in &printed {
            let same = printed.iter().filter(|other| other.0 == *script).all(|other| other.1 == *stdout);
            assert!(same && !stdout.is_empty(), "round {round}: {script}: {printed:?}");
        }
    }
    daemon.nix().run("nix-store", ["--verify", "--check-contents"]);
}
