//! Stores of machines that ssh reaches, with real Nix and with Kiln there; all of them on loopback.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kiln_hash::encoding::base64;
use kiln_testing::{ALONE, Ran, SshServer, sandbox_paths_of_nix};

use crate::daemons::{DAEMONS, with_settings};
use crate::world::World;

const KILN: &str = env!("CARGO_BIN_EXE_kiln");

const IT: &str = r#"
derivation {
  name = "it";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-ec" "echo built > $out" ];
}"#;

/// What is spoken, and the program there: a daemon, or the program that stands for its `nix-store`.
const WAYS: [(&str, &str); 4] =
    [("ssh-ng", DAEMONS[0]), ("ssh-ng", DAEMONS[1]), ("ssh", "nix-store"), ("ssh", KILN)];

/// A machine with one daemon, and with the other store of a world.
struct Machine<'a> {
    world: &'a World,
    server: &'a SshServer,
    scheme: &'a str,
    /// What its URL has after the host.
    parameters: String,
}

impl<'a> Machine<'a> {
    fn new(world: &'a World, server: &'a SshServer, (scheme, program): (&'a str, &str)) -> Self {
        let daemon = if program == KILN { KILN } else { DAEMONS[0] };
        // A store that isn't where its paths say has a sandbox, whatever is wanted.
        let settings = format!("trusted-users = *\nsandbox-paths = {}", sandbox_paths_of_nix());
        let command = with_settings(world, daemon, "there", &settings);
        let mut script = "#!/bin/sh\n".to_owned();
        for (name, value) in command.get_envs() {
            let (name, value) = (name.to_str().unwrap(), value.unwrap_or_default().to_str().unwrap());
            script += &format!("export {name}='{value}'\n");
        }
        let command = match (scheme, program) {
            ("ssh-ng", KILN) => "daemon",
            ("ssh", KILN) => "nix-store",
            _ => "",
        };
        script += &format!("exec {program} {command} \"$@\"\n");
        let file = world.store.write("remote-program", script);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let store = world.other_store("there").replace('&', "%26");
        let parameters = format!("remote-program={}&remote-store={store}", file.display());
        Self { world, server, scheme, parameters }
    }

    fn url(&self) -> String {
        format!("{}://127.0.0.1?{}", self.scheme, self.parameters)
    }

    /// Runs Kiln on the store of this world.
    fn kiln(&self, arguments: &[&str]) -> Ran {
        let mut command = self.world.store.kiln_command(arguments);
        command.env("NIX_SSHOPTS", self.server.options()).output().unwrap().into()
    }
}

#[test]
fn paths_go_to_a_machine_and_come_from_it() {
    let Some(server) = SshServer::start() else { return };
    for way in WAYS {
        let Some(world) = World::new() else { return };
        let machine = Machine::new(&world, &server, way);
        let to = machine.kiln(&["copy", "--to", &machine.url(), "--no-check-sigs", &world.top]);
        assert_eq!(to.code, Some(0), "{way:?}: {}", to.stderr);
        assert!(to.stderr.contains("3 paths copied"), "{}", to.stderr);
        let third = world.other_store("third");
        let arguments = ["copy", "--from", &machine.url(), "--to", &third, "--no-check-sigs", &world.top];
        let from = machine.kiln(&arguments);
        assert!(from.stderr.contains("3 paths copied"), "{way:?}: {}", from.stderr);
        for path in &world.closure {
            world.same(path.as_ref(), &world.in_other_store("there", path));
            world.same(path.as_ref(), &world.in_other_store("third", path));
        }
    }
}

#[test]
fn what_a_machine_has_is_substituted() {
    let Some(server) = SshServer::start() else { return };
    for way in WAYS {
        let Some(world) = World::new() else { return };
        let machine = Machine::new(&world, &server, way);
        machine.kiln(&["copy", "--to", &machine.url(), "--no-check-sigs", &world.top]);
        let url = machine.url() + "&trusted=true";
        let mut command = with_settings(&world, KILN, "fourth", "substitute = true");
        command.args(["build", "--no-link", "--option", "substituters", &url, &world.top]);
        let ran = Ran::from(command.env("NIX_SSHOPTS", server.options()).output().unwrap());
        assert_eq!(ran.line(), world.top, "{way:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("from '{}://127.0.0.1'", way.0)), "{}", ran.stderr);
        for path in &world.closure {
            world.same(path.as_ref(), &world.in_other_store("fourth", path));
        }
    }
}

#[test]
fn commands_work_on_the_store_of_a_machine() {
    let Some(server) = SshServer::start() else { return };
    for daemon in DAEMONS {
        let Some(world) = World::new() else { return };
        let machine = Machine::new(&world, &server, ("ssh-ng", daemon));
        let url = machine.url();
        let ran = machine.kiln(&["store", "ping", "--json", &url]);
        let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect(&ran.stderr);
        assert_eq!(told["url"], "ssh-ng://127.0.0.1");
        let derivation = world.store.instantiate(IT).remove(0);
        let ran = machine.kiln(&["copy", "--derivation", "--to", &url, "--no-check-sigs", &derivation]);
        assert_eq!(ran.code, Some(0), "{daemon}: {}", ran.stderr);
        let there = |arguments: &[&str]| -> Ran {
            let mut command = world.store.nix().command(KILN);
            command.args(arguments).env("NIX_REMOTE", &url).env("NIX_SSHOPTS", server.options());
            command.current_dir(world.store.directory());
            command.output().unwrap().into()
        };
        let built = there(&["build", &format!("{derivation}^*")]);
        let path = built.line();
        assert_eq!(fs::read_to_string(world.in_other_store("there", path)).unwrap(), "built\n", "{daemon}");
        assert!(!Path::new(path).exists());
        let link = fs::symlink_metadata(world.store.directory().join("result"));
        assert!(link.is_err(), "a link that leads nowhere");
        let local = there(&["store", "verify"]);
        assert!(local.failed(1).contains("works only on local stores"), "{}", local.stderr);
    }
}

/// The older protocol has fewer commands, and tells what went wrong on standard error.
#[test]
fn what_cannot_be_done_in_the_older_way_is_said_so() {
    let Some(server) = SshServer::start() else { return };
    for program in ["nix-store", KILN] {
        let Some(world) = World::new() else { return };
        let machine = Machine::new(&world, &server, ("ssh", program));
        let mut command = world.store.nix().command(KILN);
        command.args(["build", "--no-link", &world.top]);
        command.env("NIX_REMOTE", machine.url()).env("NIX_SSHOPTS", server.options());
        let ran = Ran::from(command.output().unwrap());
        let text = ran.failed(1);
        assert!(text.contains("the protocol of 'ssh://' has no way of"), "{text}");
        let third = world.other_store("third");
        let ran = machine.kiln(&["copy", "--from", &machine.url(), "--to", &third, &world.top]);
        assert!(ran.failed(1).contains("is not valid in 'ssh://127.0.0.1'"), "{}", ran.stderr);
        // It goes away at a reference that is not there.
        let ran = machine.kiln(&["copy", "--no-recursive", "--to", &machine.url(), &world.top]);
        assert!(ran.failed(1).contains("is not valid"), "{program}: {}", ran.stderr);
    }
}

#[test]
fn a_machine_that_cannot_be_reached_is_said_to_be_so() {
    let Some(server) = SshServer::start() else { return };
    let Some(world) = World::new() else { return };
    let machine = Machine::new(&world, &server, ("ssh-ng", KILN));
    let ping = |url: &str, options: &str| -> Ran {
        let mut command = world.store.kiln_command(["store", "ping", url]);
        command.env("NIX_SSHOPTS", options).output().unwrap().into()
    };
    let gone = ping("ssh-ng://127.0.0.1?remote-program=/does/not/exist", &server.options());
    let text = gone.failed(1);
    assert!(text.contains("cannot reach the daemon at 'ssh-ng://127.0.0.1' by ssh: "), "{text}");
    assert!(text.contains("/does/not/exist"), "{text}");
    // On this machine nobody logs in, and what is started there is not sent back here.
    let script = world.store.write("tells", "echo store ${NIX_REMOTE-unset}, $* >&2");
    let url = format!("ssh-ng://localhost?remote-program=sh%20{}", script.display());
    let mut command = world.store.nix().command(KILN);
    let here: Ran = command.args(["store", "ping"]).env("NIX_REMOTE", &url).output().unwrap().into();
    assert!(here.failed(1).contains("by ssh: store unset, --stdio"), "{}", here.stderr);
    // Only the key that the URL names is accepted.
    let url = |key: &str| {
        format!(
            "ssh-ng://127.0.0.1:{}?ssh-key={}&base64-ssh-public-host-key={}&{}",
            server.port(),
            server.key().display(),
            base64(key.as_bytes()).replace('+', "%2B"),
            machine.parameters
        )
    };
    let known = ping(&url(&server.host_key()), ALONE);
    assert_eq!(known.code, Some(0), "{}", known.stderr);
    let of_user = fs::read_to_string(server.key().with_extension("pub")).unwrap();
    let other = ping(&url(&of_user), ALONE);
    assert!(other.failed(1).contains("Host key verification failed"), "{}", other.stderr);
}
