//! Releases of Nix that are newer than the one installed here, each in a small system that `scripts/newer-nix` has made.
//!
//! Programs of such a system run in mount namespaces of their own, in an overlay over the system, so that nothing they do to
//! it lasts and several tests can use it at once. The scratch directory of a [`Daemon`] is at its own place there.
//!
//! What Kiln's daemon answers is compared with what the same release's own daemon answers. That one serves a store beside
//! the other, which for it and its clients is at the very same place: so all paths are the same too. Commands run in the home
//! directory, of which there are two just so.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, signal};
use crate::kiln::Ran;
use crate::requirement::needs_root;

/// The systems, and the beginnings of what their Nix says its version is.
const SYSTEMS: [(&str, &str); 2] = [("trixie", "2.26"), ("sid", "2.34")];

/// Names the directory that `scripts/newer-nix` has filled.
const VARIABLE: &str = "KILN_NEWER_NIX";

/// How long a daemon may take to begin on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Enters a system: its directory, the scratch directory, the directory that is to be seen as `root` in that or nothing, and
/// the command.
const ENTER: &str = r#"
system=$1 scratch=$2 beside=$3
shift 3
mount -t tmpfs -o mode=755 tmpfs "$system/mnt"
root=$system/mnt/root
mkdir "$system/mnt/upper" "$system/mnt/work" "$root"
mount -t overlay -o "lowerdir=$system,upperdir=$system/mnt/upper,workdir=$system/mnt/work" overlay "$root"
mkdir -p "$root$scratch"
mount --bind "$scratch" "$root$scratch"
[ -z "$beside" ] || mount --bind "$beside" "$root$scratch/root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" /usr/bin/env -C "$scratch/root/home" "$@"
"#;

/// One newer release.
#[derive(Debug)]
pub struct NewerNix {
    release: &'static str,
    system: PathBuf,
}

/// Whose answers a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Those of Kiln's daemon.
    Kiln,
    /// Those of its own release's daemon: see [`NewerNix::start_daemon`].
    Own,
}

/// A release's own daemon, which ends with this value.
#[derive(Debug)]
pub struct OwnDaemon(Child);

impl NewerNix {
    /// All releases that there are; none, loudly, where nobody has made them, or where this is not root.
    #[expect(clippy::print_stderr, reason = "a test that tests nothing has to say so")]
    pub fn find() -> Vec<Self> {
        let Some(directory) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
            eprintln!(
                "SKIPPED: {VARIABLE} is not set; scripts/newer-nix makes the directory that it has to name"
            );
            return Vec::new();
        };
        if !rustix::process::geteuid().is_root() {
            needs_root("enter another system");
            return Vec::new();
        }
        SYSTEMS
            .map(|(system, release)| {
                let system = directory.join(system);
                assert!(system.is_dir(), "{}: run scripts/newer-nix", system.display());
                Self { release, system }
            })
            .into()
    }

    /// The beginning of its version: `2.34`.
    pub fn release(&self) -> &str {
        self.release
    }

    /// A command of this release whose client talks to a daemon.
    pub fn client(&self, daemon: &Daemon, server: Server, program: &str) -> Command {
        let mut command = self.command(daemon, server, program);
        command.env("NIX_REMOTE", format!("unix://{}", daemon.socket().display()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a shell script whose commands of Nix talk to a daemon.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn script(&self, daemon: &Daemon, server: Server, script: &str) -> Ran {
        let output = self.client(daemon, server, "/bin/sh").args(["-c", script]).output();
        output.unwrap_or_else(|error| panic!("unshare: {error}")).into()
    }

    /// Starts this release's own daemon on a store of its own beside that of `daemon`, with the same settings and the same home
    /// directory.
    ///
    /// # Panics
    /// If it does not listen in time.
    pub fn start_daemon(&self, daemon: &Daemon) -> OwnDaemon {
        let beside = beside(daemon);
        for name in ["store", "state", "log", "etc", "tmp"] {
            make_directory(&beside.join(name));
        }
        let copied = Command::new("cp").arg("-a").arg(daemon.path("root/home")).arg(&beside).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp cannot copy the home directory");
        let settings = daemon.path("root/etc/nix.conf");
        let settings =
            fs::read_to_string(&settings).unwrap_or_else(|error| panic!("{}: {error}", settings.display()));
        let own = beside.join("etc/nix.conf");
        fs::write(&own, settings + "sandbox = false\n")
            .unwrap_or_else(|error| panic!("{}: {error}", own.display()));
        let log = fs::File::create(beside.join("daemon.log")).unwrap_or_else(|error| panic!("{error}"));
        let mut command = self.command(daemon, Server::Own, "nix-daemon");
        let spawned = command.stdout(Stdio::null()).stderr(log).spawn();
        let mut own = OwnDaemon(spawned.unwrap_or_else(|error| panic!("unshare: {error}")));
        let socket = beside.join("state/daemon-socket/socket");
        let begin = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            let log = || fs::read_to_string(beside.join("daemon.log")).unwrap_or_default();
            assert!(own.0.try_wait().is_ok_and(|ended| ended.is_none()), "the daemon has ended: {}", log());
            assert!(begin.elapsed() < PATIENCE, "the daemon does not listen: {}", log());
            sleep(Duration::from_millis(5));
        }
        own
    }

    fn command(&self, daemon: &Daemon, server: Server, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", ENTER, "sh"]);
        command.args([&self.system, daemon.directory()]);
        match server {
            Server::Kiln => command.arg(""),
            Server::Own => command.arg(beside(daemon)),
        };
        command.arg(program).stdin(Stdio::null()).env_clear().envs(daemon.nix().variables());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

impl Drop for OwnDaemon {
    fn drop(&mut self) {
        signal("TERM", self.0.id());
        let _ = self.0.wait();
    }
}

fn beside(daemon: &Daemon) -> PathBuf {
    daemon.path("beside")
}

fn make_directory(path: &Path) {
    let made =
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)));
    made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
