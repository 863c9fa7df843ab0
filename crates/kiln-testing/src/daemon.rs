//! A daemon of Kiln's in scratch directories, and real Nix as its client.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::kiln::{Ran, SANDBOX_PATHS};
use crate::nix_peer::NixPeer;
use crate::scratch_directory::ScratchDirectory;

/// How long a daemon may take to begin or to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// The expressions that clients build, one attribute each.
const EXPRESSIONS: &str = include_str!("daemon.nix");

/// A store that a daemon serves. The daemon is ended, and everything deleted, with this value.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    scratch: ScratchDirectory,
    nix: NixPeer,
    running: Option<Child>,
}

impl Daemon {
    /// An empty store for the `kiln` program at `program`, whose daemon does not run yet. `None`, loudly, where no client,
    /// which is real Nix, is installed.
    ///
    /// # Panics
    /// Under continuous integration, if Nix is not installed; and if the directories cannot be made.
    pub fn find(program: impl Into<PathBuf>) -> Option<Self> {
        let program = std::env::var_os("KILN_TEST_PROGRAM").map_or_else(|| program.into(), PathBuf::from);
        let scratch = ScratchDirectory::new();
        // Clients of other users have to get to the socket.
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o755))
            .unwrap_or_else(|error| panic!("{}: {error}", scratch.path().display()));
        let nix = NixPeer::find(&scratch.path().join("root"))?;
        let daemon = Self { program, scratch, nix, running: None };
        daemon.configure("");
        daemon.write("default.nix", EXPRESSIONS);
        Some(daemon)
    }

    /// The same, running, with the usual settings.
    ///
    /// # Panics
    /// As [`Daemon::find`] and [`Daemon::start`].
    pub fn running(program: impl Into<PathBuf>) -> Option<Self> {
        let mut daemon = Self::find(program)?;
        daemon.start(&[]);
        Some(daemon)
    }

    /// Writes the system's nix.conf, which clients read too, with more lines.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&self, lines: &str) {
        let usual = format!(
            "substituters =\nbuild-users-group =\nsandbox-paths = {SANDBOX_PATHS}\nexperimental-features = nix-command\n"
        );
        self.write("root/etc/nix.conf", usual + lines);
    }

    /// Starts the daemon, with more arguments, and waits until it listens; how long that took.
    ///
    /// # Panics
    /// If it runs already, or does not listen in time.
    pub fn start(&mut self, arguments: &[&str]) -> Duration {
        assert!(self.running.is_none(), "it runs already");
        let begin = Instant::now();
        let log = fs::File::options().create(true).append(true).open(self.path("daemon.log"));
        let log = log.unwrap_or_else(|error| panic!("daemon.log: {error}"));
        let mut command = self.daemon_command();
        let spawned = command.args(arguments).stderr(log).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        while UnixStream::connect(self.socket()).is_err() {
            let ended = child.try_wait().ok().flatten();
            assert!(ended.is_none(), "the daemon has ended: {}", self.log());
            assert!(begin.elapsed() < PATIENCE, "the daemon does not listen: {}", self.log());
            sleep(Duration::from_millis(5));
        }
        self.running = Some(child);
        begin.elapsed()
    }

    /// The command that starts the daemon on this store.
    pub fn daemon_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("daemon").stdin(Stdio::null()).stdout(Stdio::null());
        command.env_clear().envs(self.nix.variables()).current_dir(self.scratch.path());
        command
    }

    /// Asks the daemon to end, and waits; its exit code, or `None` if it was killed by the signal.
    ///
    /// # Panics
    /// If it does not run, or does not end in time.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.running.take().unwrap_or_else(|| panic!("it does not run"));
        signal("TERM", child.id());
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap_or_else(|error| panic!("cannot wait: {error}")) {
                return status.code();
            }
            if begin.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("the daemon does not end: {}", self.log());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Kills the daemon, as a crash would.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.running.take().unwrap_or_else(|| panic!("it does not run"));
        let _ = child.kill();
        let _ = child.wait();
    }

    /// The process of the daemon.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap_or_else(|| panic!("it does not run")).id()
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.nix.state_dir().join("daemon-socket").join("socket")
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// A file of the scratch directory, where `default.nix` is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Writes a file into the scratch directory.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// The directories of the store.
    pub fn nix(&self) -> &NixPeer {
        &self.nix
    }

    /// A command of real Nix that talks to the daemon.
    pub fn client(&self, program: &str) -> Command {
        self.prepared(Command::new(program))
    }

    /// The same as another user, by number: only root can do that.
    pub fn client_as(&self, uid: u32, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        let uid = uid.to_string();
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", program]);
        let mut command = self.prepared(command);
        command.env("HOME", "/nonexistent");
        command
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.env_clear().envs(self.nix.variables());
        command.env("NIX_REMOTE", format!("unix://{}", self.socket().display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(self.scratch.path());
        command
    }

    /// Runs a command of real Nix to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> Ran {
        let output = self.client(program).args(arguments).output();
        output.unwrap_or_else(|error| panic!("{program}: {error}")).into()
    }

    /// Builds attributes of `default.nix` with `nix-build`; the output paths.
    ///
    /// # Panics
    /// If that fails.
    pub fn build(&self, attributes: &[&str]) -> Vec<String> {
        let arguments = attributes.iter().flat_map(|attribute| ["-A", attribute]);
        let ran = self.run("nix-build", ["--no-out-link"].into_iter().chain(arguments));
        ran.lines().into_iter().map(str::to_owned).collect()
    }

    /// The derivation of an attribute of `default.nix`, which is added to the store.
    ///
    /// # Panics
    /// If that fails.
    pub fn instantiate(&self, attribute: &str) -> String {
        self.run("nix-instantiate", ["-A", attribute]).line().to_owned()
    }

    /// Waits until something is so, however long a busy machine takes.
    ///
    /// # Panics
    /// If it isn't after five minutes.
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }

    /// Processes that run in a directory of a build of this store, or have it in their command line, except the daemon's own.
    pub fn builders(&self) -> Vec<String> {
        let marker = format!("KILN_TEST_STORE={}", self.scratch.path().display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let mut environment = Vec::new();
            let read = fs::File::open(entry.path().join("environ"))
                .and_then(|mut file| file.read_to_end(&mut environment));
            if read.is_ok() && String::from_utf8_lossy(&environment).split('\0').any(|line| line == marker) {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        found
    }

    /// The scratch directory.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            signal("TERM", child.id());
            let begin = Instant::now();
            while begin.elapsed() < PATIENCE && child.try_wait().is_ok_and(|status| status.is_none()) {
                sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process that a test has started.
pub fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
}
