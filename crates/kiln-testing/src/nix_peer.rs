//! Real Nix, told to work in scratch directories and to talk to no daemon.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::requirement::missing;

/// Real Nix with a store of its own.
///
/// The store directory is a scratch directory too (`NIX_STORE_DIR`), so that paths in it differ from those below
/// `/nix/store`, and neither a sandbox nor build users are needed.
#[derive(Debug)]
pub struct NixPeer {
    root: PathBuf,
    settings: String,
}

/// Settings that keep it from the network, from build users, and from a sandbox, which not every machine allows.
const SETTINGS: &str = "sandbox = false\nbuild-users-group =\nsubstitute = false\nsubstituters =\nexperimental-features = nix-command\n";

impl NixPeer {
    /// Real Nix in scratch directories below `root`; `None`, loudly, where it is not installed.
    ///
    /// # Panics
    /// Under continuous integration, if it is not installed; and if the directories cannot be made.
    pub fn find(root: &Path) -> Option<Self> {
        let peer = Self { root: root.to_path_buf(), settings: SETTINGS.to_owned() };
        peer.make_directories();
        // Even for its version it looks at its directories, and those of the machine are only root's.
        let version = peer.command("nix-store").arg("--version").output();
        if !version.is_ok_and(|output| output.status.success()) {
            missing("real Nix (Debian's nix-bin)");
            return None;
        }
        Some(peer)
    }

    /// Makes its directories, as far as they are not there.
    pub(crate) fn make_directories(&self) {
        for directory in ["store", "state", "log", "etc", "home", "tmp"].map(|name| self.root.join(name)) {
            std::fs::create_dir_all(&directory)
                .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        }
        // Clients of other users have temporary files too.
        let tmp = self.root.join("tmp");
        std::fs::set_permissions(&tmp, Permissions::from_mode(0o1777))
            .unwrap_or_else(|error| panic!("{}: {error}", tmp.display()));
    }

    /// Its store directory.
    pub fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Its state directory, which holds the database.
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Its directory of logs.
    pub fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Sets a setting for all further commands.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.settings += &format!("{name} = {value}\n");
        self
    }

    /// The variables of the environment by which this store is found.
    pub(crate) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let below = |name: &str| self.root.join(name).into_os_string();
        vec![
            ("PATH", path),
            ("HOME", below("home")),
            ("NIX_REMOTE", OsString::new()),
            ("NIX_STORE_DIR", below("store")),
            ("NIX_STATE_DIR", below("state")),
            ("NIX_LOG_DIR", below("log")),
            ("NIX_CONF_DIR", below("etc")),
            ("NIX_USER_CONF_FILES", OsString::new()),
            // Real Nix leaves empty directories of its builds, and of clients that have failed.
            ("TMPDIR", below("tmp")),
        ]
    }

    /// A command of real Nix (`nix-store`, `nix-instantiate`, `nix`) in this store.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env_clear().envs(self.variables()).env("NIX_CONFIG", &self.settings);
        command
    }

    /// A command of real Nix with the store below `root`, whose paths are called `/nix/store/…` all the same.
    pub fn command_in_root(&self, program: &str, root: &Path) -> Command {
        let mut command = self.command(program);
        for variable in ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR"] {
            command.env_remove(variable);
        }
        command.arg("--store").arg(root);
        command
    }

    /// Runs a command and gives what it printed.
    ///
    /// # Panics
    /// If the command fails.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> String {
        let output = self.output(program, arguments);
        assert!(
            output.status.success(),
            "{program}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command, whatever comes of it.
    ///
    /// # Panics
    /// If the command cannot be started.
    pub fn output<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.command(program);
        command.args(arguments);
        command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
    }
}
