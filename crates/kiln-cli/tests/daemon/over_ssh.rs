//! Real clients that reach the daemon at standard input, by ssh.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kiln_testing::{Daemon, Ran, SshServer};

use super::KILN;

/// A store that real Nix reaches by a real server of ssh. What is asked for there is `nix-daemon --stdio`.
struct Reached {
    daemon: Daemon,
    server: SshServer,
    url: String,
}

impl Reached {
    fn new() -> Option<Self> {
        let daemon = Daemon::find(KILN)?;
        let server = SshServer::start()?;
        let names = daemon.path("names");
        fs::create_dir(&names).unwrap();
        let command = daemon.daemon_command();
        std::os::unix::fs::symlink(command.get_program(), names.join("nix-daemon")).unwrap();
        // Who logs in has none of the test's variables.
        let variables: Vec<String> = command
            .get_envs()
            .filter_map(|(name, value)| {
                Some(format!("{}='{}'", name.to_str().unwrap(), value?.to_str().unwrap()))
            })
            .collect();
        let script =
            format!("#!/bin/sh\nexec env {} {}/nix-daemon \"$@\"\n", variables.join(" "), names.display());
        let program = daemon.write("remote-program", script);
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        // By the name of localhost, clients start the program themselves.
        let url = format!("ssh-ng://127.0.0.1?remote-program={}", program.display());
        Some(Self { daemon, server, url })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let mut client = self.daemon.client(program);
        client.env("NIX_SSHOPTS", self.server.options()).env("NIX_REMOTE", &self.url).args(arguments);
        client.output().unwrap().into()
    }
}

#[test]
fn real_clients_build_ask_and_copy_over_ssh() {
    let Some(reached) = Reached::new() else { return };
    let daemon = &reached.daemon;
    let ran = reached.run("nix-build", &["-A", "b", "--no-out-link"]);
    let out = ran.line().to_owned();
    assert_eq!(fs::read_to_string(&out).unwrap(), "hi\n", "{}", ran.stderr);
    assert!(!daemon.socket().exists(), "nobody listens there");

    let references = reached.run("nix-store", &["-q", "--references", &out]);
    assert_eq!(
        references.lines(),
        daemon.nix().run("nix-store", ["-q", "--references", &out]).lines().collect::<Vec<_>>()
    );
    let told = reached.run("nix", &["path-info", "--json", &out]);
    assert!(told.stdout.contains("narHash"), "{}", told.stderr);

    let cache = format!("file://{}", daemon.path("cache").display());
    let copied = reached.run("nix", &["copy", "--from", &reached.url, "--to", &cache, &out]);
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    let deleted = reached.run("nix-store", &["--delete", &out]);
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    assert!(!fs::exists(&out).unwrap());
    let copied =
        reached.run("nix", &["copy", "--no-check-sigs", "--from", &cache, "--to", &reached.url, &out]);
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    assert_eq!(fs::read_to_string(&out).unwrap(), "hi\n");
    assert_eq!(daemon.nix().run("nix-store", ["--verify-path", &out]), "");

    let failing = reached.run("nix-build", &["-A", "fail", "--no-out-link"]);
    assert_eq!(failing.code, Some(1), "{}", failing.stderr);
    assert!(failing.stderr.contains("builder for"), "{}", failing.stderr);
}
