//! The `kiln` program with a scratch store, as a user would run it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::build_users::BuildUsers;
use crate::scratch_directory::ScratchDirectory;

/// What builders of the tests find of the host: a shell, tools, a C compiler.
pub const SANDBOX_PATHS: &str = "/bin /usr /lib /lib64? /etc/alternatives?";

/// The same for real Nix, some releases of which know no paths that may be missing.
pub fn sandbox_paths_of_nix() -> String {
    SANDBOX_PATHS.replace("/lib64?", "/lib64").replace("/etc/alternatives?", "")
}

/// The `kiln` program with a store below a scratch directory, which is deleted with this value.
#[derive(Debug)]
pub struct Kiln {
    program: PathBuf,
    scratch: ScratchDirectory,
    build_users: Option<BuildUsers>,
    is_in_place: bool,
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
    /// The environment variable `KILN_TEST_PROGRAM` names another program, for tests that run as a user who cannot read
    /// the directory that they were compiled in.
    ///
    /// # Panics
    /// If no scratch directory can be made.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = std::env::var_os("KILN_TEST_PROGRAM").map_or_else(|| program.into(), PathBuf::from);
        let scratch = ScratchDirectory::new();
        Self { program, scratch, build_users: None, is_in_place: false, options: Vec::new() }
    }

    /// The same with build users, which exist only in mount namespaces of the commands. `None` for an ordinary user, who
    /// cannot have any.
    pub fn with_build_users(program: impl Into<PathBuf>) -> Option<Self> {
        let mut kiln = Self::new(program);
        kiln.build_users = Some(BuildUsers::in_directory(kiln.scratch.path())?);
        Some(kiln)
    }

    /// As Kiln is used: root has build users, anybody else builds as themselves.
    pub fn as_used(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self::with_build_users(&program).unwrap_or_else(|| Self::new(program))
    }

    /// The store's paths are where they say, below the scratch directory, and not `/nix/store`. Without this, builds are
    /// always sandboxed: only a sandbox can show them the store where it should be.
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.is_in_place = true;
        self
    }

    /// Sets a setting for all further commands.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
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
        if self.is_in_place { path.into() } else { self.root().join(path.trim_start_matches('/')) }
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

    /// Compiles a C program into the scratch directory, for a recipe to have it as a source.
    ///
    /// # Panics
    /// If that fails.
    pub fn compile(&self, name: &str, source: &str) -> PathBuf {
        let file = self.write(&format!("{name}.c"), source);
        let program = self.scratch.path().join(name);
        let status = Command::new("cc").arg("-O1").arg("-w").arg("-o").arg(&program).arg(file).status();
        assert!(status.is_ok_and(|status| status.success()), "cc cannot compile {name}.c");
        program
    }

    /// A command of the program on this store, in the scratch directory.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = match &self.build_users {
            Some(users) => users.command(&self.program),
            None => Command::new(&self.program),
        };
        command.args(arguments);
        command.arg("--store");
        if self.is_in_place {
            command.arg("local");
        } else {
            command.arg(self.root());
        }
        let group = self.build_users.as_ref().map_or("", BuildUsers::group);
        for (name, value) in
            [("sandbox-paths", SANDBOX_PATHS), ("build-users-group", group), ("substituters", "")]
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
            // Real Nix, as a build hook, leaves empty directories there.
            .env("TMPDIR", self.scratch.path())
            .env("NIX_CONF_DIR", self.scratch.path().join("etc"))
            .env("NIX_USER_CONF_FILES", "");
        if self.is_in_place {
            for (name, directory) in
                [("STORE", "nix/store"), ("STATE", "nix/var/nix"), ("LOG", "nix/var/log/nix")]
            {
                command.env(format!("NIX_{name}_DIR"), self.root().join(directory));
            }
        }
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

    /// Runs a command to its end with something on its standard input.
    ///
    /// # Panics
    /// If it cannot be started, or doesn't read its input.
    pub fn run_reading<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: impl AsRef<[u8]>,
    ) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = || {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_ref())?;
            }
            child.wait_with_output()
        };
        run().unwrap_or_else(|error: std::io::Error| panic!("{}: {error}", self.program.display())).into()
    }

    /// Builds the default target of a recipe, with more arguments.
    pub fn build(&self, recipe: &str, arguments: &[&str]) -> Ran {
        self.write("kiln.toml", recipe);
        self.run(["build", "--no-link"].iter().chain(arguments))
    }

    /// Begins a build and doesn't wait for its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_build(&self, recipe: &str, arguments: &[&str]) -> Child {
        self.start_linked_build(recipe, &[&["--no-link"], arguments].concat())
    }

    /// Begins a build that leaves links to its outputs, and doesn't wait for its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_linked_build(&self, recipe: &str, arguments: &[&str]) -> Child {
        // One that was started before may be reading it.
        let is_written =
            std::fs::read(self.scratch.path().join("kiln.toml")).is_ok_and(|text| text == recipe.as_bytes());
        if !is_written {
            self.write("kiln.toml", recipe);
        }
        let mut command = self.command(["build"].iter().chain(arguments));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }

    /// The path of the derivation that the only target of a recipe stands for, which is added to the store.
    ///
    /// # Panics
    /// If there is no such derivation.
    pub fn instantiate(&self, recipe: &str) -> String {
        self.write("kiln.toml", recipe);
        let shown = self.json(["derivation", "show", "."]);
        let paths = shown.get("derivations").and_then(Value::as_object);
        let path = paths.and_then(|paths| paths.keys().next());
        let store = if self.is_in_place { self.root().join("nix/store") } else { "/nix/store".into() };
        format!("{}/{}", store.display(), path.unwrap_or_else(|| panic!("no derivation in {shown}")))
    }

    /// What a command that must succeed prints as JSON.
    ///
    /// # Panics
    /// If it fails or prints something else.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    /// What the store knows about a valid path; `None` if it isn't valid.
    pub fn info(&self, path: &str) -> Option<Value> {
        let ran = self.run(["store", "info", "--json", path]);
        let mut infos: Value = serde_json::from_str(&ran.stdout).ok()?;
        infos.get_mut(path).map(Value::take)
    }

    /// Makes a path invalid, whose files stay.
    ///
    /// # Panics
    /// If the database cannot be changed.
    pub fn forget(&self, path: &str) {
        let database = self.root().join("nix/var/nix/db/db.sqlite");
        let delete = format!("pragma foreign_keys = on; delete from ValidPaths where path = '{path}';");
        let status =
            Command::new("sqlite3").args(["-cmd", ".timeout 60000"]).arg(database).arg(delete).status();
        let done = status.is_ok_and(|status| status.success());
        assert!(done, "sqlite3 cannot delete {path}");
    }

    /// The text of a file below a store path.
    ///
    /// # Panics
    /// If it cannot be read as text.
    pub fn text(&self, path: &str) -> String {
        let path = self.real(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
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

impl From<Child> for Ran {
    /// Waits for the end of a program that was started with pipes.
    fn from(child: Child) -> Self {
        child.wait_with_output().unwrap_or_else(|error| panic!("cannot wait: {error}")).into()
    }
}

impl Ran {
    /// The one line that was printed.
    ///
    /// # Panics
    /// If the program failed, or printed less or more.
    pub fn line(&self) -> &str {
        match *self.lines() {
            [line] => line,
            _ => panic!("expected one line: {}", self.stdout),
        }
    }

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
