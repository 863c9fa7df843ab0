//! One store that Kiln and real Nix both work on, in turns or at once.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::build_users::BuildUsers;
use crate::kiln::{Ran, SANDBOX_PATHS};
use crate::nix_peer::NixPeer;
use crate::scratch_directory::{ScratchDirectory, make_writable};

/// A store in a scratch directory, which Kiln and real Nix find by the same variables of the environment.
///
/// Its store directory is the scratch directory too, so that its paths differ from those below `/nix/store`.
#[derive(Debug)]
pub struct SharedStore {
    program: PathBuf,
    scratch: ScratchDirectory,
    nix: NixPeer,
    build_users: Option<BuildUsers>,
    options: Vec<(String, String)>,
}

impl SharedStore {
    /// An empty store for real Nix and the `kiln` program at `program`; `None`, loudly, where Nix is not installed.
    ///
    /// # Panics
    /// Under continuous integration, if Nix is not installed; and if the directories cannot be made.
    pub fn find(program: impl Into<PathBuf>) -> Option<Self> {
        let program = std::env::var_os("KILN_TEST_PROGRAM").map_or_else(|| program.into(), PathBuf::from);
        let scratch = ScratchDirectory::new();
        let nix = NixPeer::find(&scratch.path().join("root"))?;
        Some(Self { program, scratch, nix, build_users: None, options: Vec::new() })
    }

    /// Gives Kiln build users, as root has them, which exist only in mount namespaces of its commands. An ordinary user has
    /// none.
    #[must_use]
    pub fn with_build_users(mut self) -> Self {
        self.build_users = BuildUsers::in_directory(self.scratch.path());
        self
    }

    /// Sets a setting for all further commands of both.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self.nix = self.nix.option(name, value);
        self
    }

    /// Real Nix.
    pub fn nix(&self) -> &NixPeer {
        &self.nix
    }

    /// A directory for what tests need besides the store.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a file into the scratch directory.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.scratch.path().join(name);
        fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// A command of Kiln on this store, in the scratch directory.
    pub fn kiln_command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let users = self.build_users.as_ref();
        let mut command =
            users.map_or_else(|| Command::new(&self.program), |users| users.command(&self.program));
        command.args(arguments).args(["--store", "local"]);
        let group = users.map_or("", BuildUsers::group);
        let common = [("sandbox-paths", SANDBOX_PATHS), ("build-users-group", group), ("substituters", "")];
        let options = self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in common.into_iter().chain(options) {
            command.args(["--option", name, value]);
        }
        command.stdin(Stdio::null()).current_dir(self.scratch.path()).env_clear().envs(self.nix.variables());
        command
    }

    /// Runs a command of Kiln to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn kiln<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        let output = self.kiln_command(arguments).output();
        output.unwrap_or_else(|error| panic!("{}: {error}", self.program.display())).into()
    }

    /// A link of this name to Kiln, which it finds its role by. Commands of [`NixPeer::command`] take it as a program.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn kiln_as(&self, name: &str) -> PathBuf {
        let link = self.scratch.path().join(name);
        std::os::unix::fs::symlink(&self.program, &link)
            .unwrap_or_else(|error| panic!("{}: {error}", link.display()));
        link
    }

    /// Builds targets with Kiln, which must succeed; the output paths.
    ///
    /// # Panics
    /// If it fails.
    pub fn build(&self, targets: &[String]) -> Vec<String> {
        let arguments = ["build", "--no-link"].into_iter().chain(targets.iter().map(String::as_str));
        self.kiln(arguments).lines().into_iter().map(str::to_owned).collect()
    }

    /// Evaluates a Nix expression with real Nix; the paths of the derivations that it stands for, which are added to the store.
    ///
    /// # Panics
    /// If it fails.
    pub fn instantiate(&self, expression: &str) -> Vec<String> {
        self.nix_lines("nix-instantiate", ["-E", expression])
    }

    /// Runs a command of real Nix that must succeed; the lines that it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn nix_lines<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Vec<String> {
        self.nix.run(program, arguments).lines().map(str::to_owned).collect()
    }

    /// Has real Nix collect garbage. It looks at every process of the machine, and Nix 2.8 gives up if one of them has a
    /// directory with a very long path open: then it is tried again, as such processes are other tests.
    ///
    /// # Panics
    /// If it fails, or cannot look at all processes for a minute.
    pub fn collect(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let output = self.nix.output("nix-store", ["--gc"]);
            let errors = String::from_utf8_lossy(&output.stderr);
            if !errors.contains("File name too long") {
                assert!(output.status.success(), "{errors}");
                return;
            }
            sleep(Duration::from_millis(200));
        }
        panic!("Nix could not look at all processes of the machine for a minute");
    }

    /// Has real Nix compare the whole store with its database.
    ///
    /// # Panics
    /// If they differ.
    pub fn verify(&self) {
        let output = self.nix.output("nix-store", ["--verify", "--check-contents"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        // A path that has disappeared, and nothing refers to, is only told of.
        assert!(!errors.contains("error") && !errors.contains("disappeared"), "{errors}");
    }

    /// Makes it an empty store again.
    ///
    /// # Panics
    /// If it cannot be deleted.
    pub fn clear(&self) {
        delete(&self.root());
        self.nix.make_directories();
    }

    /// Keeps a copy of the store as it is, to go back to, in place of an older one.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn save(&self) {
        delete(&self.saved());
        copy(&self.root(), &self.saved());
    }

    /// Makes the store what it was when it was saved.
    ///
    /// # Panics
    /// If it cannot be copied.
    pub fn go_back(&self) {
        delete(&self.root());
        copy(&self.saved(), &self.root());
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn saved(&self) -> PathBuf {
        self.scratch.path().join("saved")
    }
}

/// Deletes a tree, if it is there.
fn delete(tree: &Path) {
    if tree.exists() {
        make_writable(tree);
        fs::remove_dir_all(tree).unwrap_or_else(|error| panic!("{}: {error}", tree.display()));
    }
}

/// Copies a tree with its modes and times.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--"]).args([from, to]).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot copy {} to {}",
        from.display(),
        to.display()
    );
}
