//! A fresh directory to run the program in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kiln_testing::ScratchDirectory;

/// What a run of a program came to.
pub(crate) struct Outcome {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) exit_code: i32,
}

impl Outcome {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            exit_code: output.status.code().unwrap_or(-1),
        }
    }

    /// Standard output of a run that must have succeeded without a word on standard error.
    #[track_caller]
    pub(crate) fn quiet_success(&self) -> String {
        assert_eq!(self.stderr, "");
        self.success()
    }

    /// Standard output of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn success(&self) -> String {
        assert_eq!(self.exit_code, 0, "{}", self.stderr);
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Standard error of a run that must have failed with `exit_code` and without a result.
    #[track_caller]
    pub(crate) fn failure(&self, exit_code: i32) -> &str {
        assert_eq!(self.exit_code, exit_code, "{}", self.stderr);
        assert_eq!(String::from_utf8_lossy(&self.stdout), "");
        assert!(self.stderr.contains("error: "), "{}", self.stderr);
        &self.stderr
    }
}

/// A directory that vanishes with everything in it: a home, a configuration directory, a store with its state.
pub(crate) struct Scratch {
    dir: ScratchDirectory,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = ScratchDirectory::new();
        for name in ["home", "etc", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    /// Where the program is run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// The store directory; what is in it is called so, too.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The state directory of the store.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The configuration directory.
    pub(crate) fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    /// Writes a file below the working directory.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    /// Any program, with nothing in its environment that is not of this directory.
    pub(crate) fn program(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path().join("home"))
            .env("NIX_CONF_DIR", self.etc())
            .env("XDG_CONFIG_DIRS", "")
            .env("NIX_STORE_DIR", self.store())
            .env("NIX_STATE_DIR", self.state())
            .env("NIX_LOG_DIR", self.dir.path().join("log"))
            .current_dir(self.dir.path().join("work"))
            .stdin(Stdio::null());
        command
    }

    /// The program with arguments separated by blanks, not yet started.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_kiln"));
        command.args(arguments.split_whitespace());
        command
    }

    /// Lets builds run as the user that runs the test, without a sandbox unless they ask for it, with the programs of the
    /// host.
    pub(crate) fn configure_builds(&self) {
        let settings = "build-users-group =\nsandbox = false\nsandbox-paths = /bin /usr /lib /lib64?\n";
        fs::write(self.etc().join("nix.conf"), settings).unwrap();
    }

    /// Runs the program with arguments separated by blanks.
    pub(crate) fn kiln(&self, arguments: &str) -> Outcome {
        Outcome::of(self.command(arguments).output().unwrap())
    }

    /// Runs the program with something on its standard input.
    pub(crate) fn kiln_reading(&self, arguments: &str, input: &[u8]) -> Outcome {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A program that fails early does not read to the end.
            scope.spawn(move || drop(stdin.write_all(input)));
            Outcome::of(child.wait_with_output().unwrap())
        })
    }
}
