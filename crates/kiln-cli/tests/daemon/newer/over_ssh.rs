//! `ssh-ng://` stores of newer clients. For the host `localhost` they start the program of the other machine themselves.

use std::fs;

use kiln_testing::{Ran, Server};

use super::{daemon, each_release};
use crate::KILN;

/// What is done over it; `$NG` is the store.
const SCRIPTS: &[&str] = &[
    "nix store info --store $NG 2>&1 | grep -c -i trusted",
    "nix-instantiate -A b --store $NG",
    "nix build -f . b --no-link --print-out-paths --eval-store auto --store $NG",
    "nix build -f . fail --no-link --eval-store auto --store $NG",
    "nix-store -r $(nix-instantiate -A big) --store $NG",
    "nix path-info -rsSh --store $NG $(nix-build -A b --no-out-link)",
    "nix store ls -lR --store $NG $(nix-build -A b --no-out-link)",
    "nix store cat --store $NG $(nix-build -A b --no-out-link)",
    "nix-store -q --references --store $NG $(nix-build -A b --no-out-link)",
    "nix copy --no-check-sigs --from $NG --to file://$PWD/cache-ng $(nix-build -A b --no-out-link) && ls cache-ng | wc -l",
    "nix copy --no-check-sigs --from $NG --to $PWD/store-ng $(nix-build -A b --no-out-link) && nix path-info --store $PWD/store-ng --all | wc -l",
    "nix-store --export $(nix-build -A a --no-out-link) > exported-a; rm -rf kept; nix-store --delete $(nix-build -A a --no-out-link) >/dev/null 2>&1; echo",
    "nix copy --no-check-sigs --from file://$PWD/cache-ng --to $NG $(nix-instantiate --eval -A b.outPath --json | tr -d '\"')",
    "nix-store --check-validity $(nix-instantiate --eval -A b.outPath --json | tr -d '\"')",
    "nix store add-path tree --store $NG",
    "nix path-info --store $NG $NIX_STORE_DIR/00000000000000000000000000000000-nothing",
];

#[test]
fn newer_clients_reach_the_daemon_over_ssh_ng() {
    each_release(|nix| {
        let Some(daemon) = daemon("require-sigs = false\n") else { return };
        let _own = nix.start_daemon(&daemon);
        // Systems see of this one only the scratch directory.
        let program = daemon.path("nix-daemon");
        fs::copy(std::env::var_os("KILN_TEST_PROGRAM").unwrap_or_else(|| KILN.into()), &program).unwrap();
        let run = |server: Server, script: &str| {
            let parameter = match server {
                Server::Kiln => format!("?remote-program={}", program.display()),
                Server::Own => String::new(),
            };
            let mut client = nix.client(&daemon, server, "/bin/sh");
            client.env("NG", format!("ssh-ng://localhost{parameter}"));
            Ran::from(client.args(["-c", script]).output().unwrap())
        };
        for script in SCRIPTS {
            let [kiln, own] = [Server::Kiln, Server::Own].map(|server| run(server, script));
            assert!(
                (kiln.code, &kiln.stdout) == (own.code, &own.stdout),
                "{}: {script}\n# Kiln: {:?}\n{}{}\n# Nix: {:?}\n{}{}",
                nix.release(),
                kiln.code,
                kiln.stdout,
                kiln.stderr,
                own.code,
                own.stdout,
                own.stderr
            );
        }
    });
}
