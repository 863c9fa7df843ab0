//! The `kiln` program with a scratch store, as a user would run it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::build_users::BuildUsers;

/// What builders of the tests find of the host: a shell, tools, a C compiler.
pub const SANDBOX_PATHS: &str = "/bin /usr /lib /lib64? /etc/alternatives?";

/// The `kiln` program with a store below a scratch directory, which is deleted with this value.
#[derive(Debug)]
pub struct Kiln {
    program: PathBuf,
    scratch: TempDir,
    build_users: Option<BuildUsers>,
    options: Vec<(String, String)>,
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` if it was killed.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Kiln {
    /// The program at `program` (`env!("CARGO_BIN_EXE_kiln")`) with an empty store of its own, without build users.
    ///
    /// # Panics
    /// If no scratch directory can be made.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        // Not below /tmp, which builders have one of their own of, and which may be a small tmpfs.
        let scratch = tempfile::Builder::new()
            .prefix("kiln-test-")
            .tempdir_in("/var/tmp")
            .unwrap_or_else(|error| panic!("cannot make a scratch directory: {error}"));
        Self { program: program.into(), scratch, build_users: None, options: Vec::new() }
    }

    /// The same with build users, which exist only in mount namespaces of the commands. `None` for an ordinary user, who
    /// cannot have any.
    pub fn with_build_users(program: impl Into<PathBuf>) -> Option<Self> {
        let mut kiln = Self::new(program);
        kiln.build_users = Some(BuildUsers::in_directory(kiln.scratch.path())?);
        Some(kiln)
    }

    /// Sets a setting for all further commands.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The scratch directory: `root` in it is the store's.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The root directory of the store.
    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    /// Where a path of the store really is.
    pub fn real(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Writes a file into the scratch directory.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.scratch.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{}: {error}", parent.display()));
        }
        std::fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// A command of the program on this store, in the scratch directory.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = match &self.build_users {
            Some(users) => users.command(&self.program),
            None => Command::new(&self.program),
        };
        command.args(arguments);
        command.arg("--store").arg(self.root());
        let group = self.build_users.as_ref().map_or("", BuildUsers::group);
        for (name, value) in [("sandbox-paths", SANDBOX_PATHS), ("build-users-group", group)]
            .into_iter()
            .chain(self.options.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        {
            command.args(["--option", name, value]);
        }
        command
            .stdin(Stdio::null())
            .current_dir(self.scratch.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.scratch.path())
            .env("NIX_CONF_DIR", self.scratch.path().join("etc"))
            .env("NIX_USER_CONF_FILES", "");
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        let output = self
            .command(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        Ran::from(output)
    }

    /// Builds the default target of a recipe, with more arguments.
    pub fn build(&self, recipe: &str, arguments: &[&str]) -> Ran {
        self.write("kiln.toml", recipe);
        self.run(["build", "--no-link"].iter().chain(arguments))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// What was printed, line by line.
    ///
    /// # Panics
    /// If the program failed.
    pub fn lines(&self) -> Vec<&str> {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout.lines().collect()
    }

    /// What was said by a program that failed with this code.
    ///
    /// # Panics
    /// If it ended otherwise.
    pub fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        &self.stderr
    }
}
