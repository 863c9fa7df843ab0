//! The network that fixed outputs have for themselves (X2, X5): what is reached from it, what is not, and that nothing is
//! left of what connects it.
//!
//! The host is a network namespace in which a test runs Kiln, with servers at its addresses (`data/world.py`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kiln_testing::{Kiln, Ran, Recipe, missing};

/// The hash of what the servers say.
const FETCHED: &str = "sha256-9uN5sGOQVMUYBv1dZ5SMvK69NUsOkadoOTKwQ8XDujI=";
const ADDRESS: &str = "192.0.2.10";

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Kiln as it is used, with a `pasta` whose processes can be told from others. `None` where it can't connect a network.
fn kiln() -> Option<Kiln> {
    let pasta = ["/usr/bin/pasta", "/usr/local/bin/pasta"].into_iter().find(|path| Path::new(path).exists());
    let Some(pasta) = pasta else {
        missing("the program 'pasta' (Debian's package 'passt')");
        return None;
    };
    // Root makes a device of its own.
    if !is_root() && fs::File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        missing("an ordinary user who may open /dev/net/tun");
        return None;
    }
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln"));
    let ours = kiln.directory().join("pasta");
    symlink(pasta, &ours).unwrap();
    let ours = ours.display().to_string();
    Some(kiln.option("pasta-path", &ours).option("fod-network", "isolated"))
}

/// The command in a network of its own that has a default route, with the servers.
fn in_world(kiln: &Kiln, command: &Command) -> Command {
    let resolver = kiln.write("resolv.conf", "nameserver 127.0.0.1\n");
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/world.py");
    let ready = kiln.directory().join("ready");
    let script = format!(
        "set -e; rm -f {ready}\n\
         mount --bind {resolver} $(readlink -f /etc/resolv.conf)\n\
         ip link set lo up; ip link add world type veth peer name other; ip link set other up; ip link set world up\n\
         ip address add {ADDRESS}/24 dev world; ip route add default via 192.0.2.1\n\
         setpriv --pdeathsig KILL python3 {server} {ADDRESS} {ready} &\n\
         n=0; while ! test -e {ready}; do sleep 0.05; n=$((n + 1)); test $n -lt 200; done\n\
         exec \"$@\"",
        resolver = resolver.display(),
        server = server.display(),
        ready = ready.display(),
    );
    let mut world = Command::new("unshare");
    if !is_root() {
        world.args(["--user", "--map-root-user"]);
    }
    // The servers end with their namespace.
    world.args([
        "--net",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    world.args(["sh", "-c", &script, "sh"]);
    if !is_root() {
        world.args(["unshare", "--user", "--map-user=65534", "--map-group=65534"]);
    }
    world.arg(command.get_program()).args(command.get_args()).current_dir(kiln.directory()).env_clear();
    world.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    world.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    world
}

/// Begins a build in such a world.
fn start(kiln: &Kiln, recipe: &Recipe, options: &[&str]) -> Child {
    kiln.write("kiln.toml", recipe.text());
    let command = kiln.command(["build", "--no-link"].iter().chain(options));
    in_world(kiln, &command).spawn().unwrap()
}

fn build(kiln: &Kiln, recipe: &Recipe, options: &[&str]) -> Ran {
    start(kiln, recipe, options).into()
}

/// A fixed output that a script in Python makes.
fn python(script: &str) -> Recipe {
    Recipe::script(&format!(
        "cat > script.py <<'END'\nimport os, socket, urllib.request as web\n{script}\nEND\npython3 script.py"
    ))
    .fixed(FETCHED, "flat")
}

/// The processes of `pasta` that a test's Kiln has started, by their own ids in this process's view.
fn helpers(kiln: &Kiln) -> Vec<PathBuf> {
    let program = kiln.directory().join("pasta").display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_helper = |directory: &PathBuf| {
        let words = fs::read(directory.join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).next() == Some(program.as_bytes())
    };
    entries.filter(is_helper).collect()
}

const FETCH: &str = "open(os.environ['out'], 'wb').write(web.urlopen('http://anything.test:8000/').read())";

#[test]
fn x2_a_fixed_output_reaches_the_world_and_its_names() {
    let Some(kiln) = kiln() else { return };
    let ran = build(&kiln, &python(FETCH), &["--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let isolated = "isolated: files, processes, ipc, host name, network, abstract sockets";
    assert!(ran.stdout.contains(isolated), "{}", ran.stdout);
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn x2_a_fixed_output_does_not_reach_the_hosts_loopback_interface_or_abstract_sockets() {
    let Some(kiln) = kiln() else { return };
    let script = format!(
        r#"
for family, address in [
    (socket.AF_INET, ("127.0.0.1", 8001)), (socket.AF_INET6, ("::1", 8001)), (socket.AF_INET, ("0.0.0.0", 8001)),
    (socket.AF_INET, ("169.254.1.1", 8001)), (socket.AF_INET6, ("fd4b:696c:6e00::1", 8001)),
    (socket.AF_INET, ("{ADDRESS}", 8001)), (socket.AF_UNIX, "\0kiln-test-host"),
]:
    with socket.socket(family) as attempt:
        attempt.settimeout(2)
        try:
            attempt.connect(address)
        except OSError:
            continue
        raise SystemExit("reached " + repr(address))
{FETCH}"#
    );
    let ran = build(&kiln, &python(&script), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    kiln.forget(ran.line());
    // The same builder does reach them where the network is shared: the servers are there.
    let loopback = "web.urlopen('http://127.0.0.1:8001/').read()\nraise SystemExit('reached')";
    let kiln = kiln.option("fod-network", "host");
    let ran = build(&kiln, &python(loopback), &[]);
    assert!(ran.failed(1).contains("reached"), "{}", ran.stderr);
}

#[test]
fn x2_a_builder_cannot_reach_what_connects_its_network() {
    let Some(kiln) = kiln() else { return };
    let script = format!(
        r#"
import signal
assert not [name for name in os.listdir("/proc") if name.isdigit() and open(f"/proc/{{name}}/cmdline", "rb").read().split(b"\0")[0].endswith(b"pasta")]
# All that can be seen, but this process itself.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    for pid in range(2, 40000):
        if pid not in (os.getpid(), os.getppid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
    os._exit(0)
try:
    os.wait()
except ChildProcessError:
    pass
# Nor can an interface be made, or raw packets be sent that look as if they came from elsewhere.
for call in (lambda: open("/dev/net/tun"), lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
             lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)):
    try:
        call()
    except OSError:
        continue
    raise SystemExit("not refused")
{FETCH}"#
    );
    let ran = build(&kiln, &python(&script), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn x2_what_connects_a_network_ends_with_its_build() {
    let Some(kiln) = kiln() else { return };
    let waiting = "import time\nopen('ready', 'w')\ntime.sleep(1000)";
    let ready = kiln.root().join("nix/var/nix/builds/nix-build-it.drv-0/build/ready");
    // The world is killed with Kiln, guardian and launcher in it: nothing of them gets to clean up.
    for kills_engine in [true, false] {
        let mut child = start(&kiln, &python(waiting), if kills_engine { &[] } else { &["--timeout", "3"] });
        kiln.wait_for(&ready);
        assert_eq!(helpers(&kiln).len(), 1);
        if kills_engine {
            let program = kiln.program().display().to_string();
            kill(|words| words.first() == Some(&program) && words.iter().any(|word| word == "build"), &kiln);
            child.wait().unwrap();
        } else {
            let ran = Ran::from(child);
            assert!(ran.failed(101).contains("timed out after 3 seconds"), "{}", ran.stderr);
        }
        kiln.wait_until("the end of pasta", || helpers(&kiln).is_empty());
        let _ = fs::remove_file(&ready);
    }
    assert_eq!(kiln.remains(), [""; 0]);
}

/// Kills the processes whose command lines are as wanted, and that mention the scratch directory.
fn kill(is_wanted: impl Fn(&[String]) -> bool, kiln: &Kiln) {
    let scratch = kiln.directory().display().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> =
            words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if is_wanted(&words) && words.iter().any(|word| word.contains(&scratch)) {
            let id = entry.file_name().into_string().unwrap();
            assert!(Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
        }
    }
}

#[test]
fn x2_a_lost_network_is_told() {
    let Some(kiln) = kiln() else { return };
    let waiting = "import time\nopen('ready', 'w')\ntime.sleep(1000)";
    let child = start(&kiln, &python(waiting), &["--json"]);
    kiln.wait_for(&kiln.root().join("nix/var/nix/builds/nix-build-it.drv-0/build/ready"));
    let pasta = kiln.directory().join("pasta").display().to_string();
    kill(|words| words.first() == Some(&pasta), &kiln);
    let ran = Ran::from(child);
    assert!(ran.failed(1).contains("has lost its network, since '"), "{}", ran.stderr);
    assert!(ran.stdout.contains("TransientFailure"), "{}", ran.stdout);
    assert_eq!(kiln.remains(), [""; 0]);
}

#[test]
fn x2_without_what_connects_it_there_is_an_error_or_a_warning() {
    let kiln = Kiln::as_used(env!("CARGO_BIN_EXE_kiln"));
    let recipe = Recipe::script("echo fetched > $out").fixed(FETCHED, "flat");
    let broken = kiln.write("broken", "#!/bin/sh\necho sorry >&2; exit 1\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&broken, mode).unwrap();
    let gone = kiln.directory().join("gone").display().to_string();
    for (program, reason) in [
        (broken.display().to_string(), "sorry"),
        (gone, "No such file or directory"),
        ("/bin/true".to_owned(), "has lost its network"),
    ] {
        let slow = Recipe::script("sleep 2; echo fetched > $out").fixed(FETCHED, "flat");
        let recipe = if program == "/bin/true" { &slow } else { &recipe };
        let ran = kiln.build(recipe, &["--fod-network", "isolated", "--pasta-path", &program]);
        assert!(ran.failed(1).contains(reason), "{}", ran.stderr);
    }
    let ran = kiln.build(&recipe, &["--fod-network", "auto", "--pasta-path", &broken.display().to_string()]);
    assert_eq!(kiln.text(ran.line()), "fetched\n");
    assert!(
        ran.stderr.contains("is built with the network of this machine and not with one of its own: '"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("sorry"), "{}", ran.stderr);
    assert_eq!(kiln.remains(), [""; 0]);
}
