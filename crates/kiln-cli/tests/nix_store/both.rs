//! Both programs, with the same environment, on one store.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln_testing::SharedStore;

const DERIVATIONS: &str = include_str!("derivations.nix");

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Nix,
    Kiln,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    /// Bytes that are not ASCII are escaped.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct Both {
    pub(crate) store: SharedStore,
    link: PathBuf,
    /// What `$NAME` in command lines stands for.
    names: BTreeMap<String, String>,
}

impl Both {
    /// An empty store; `None`, loudly, where real Nix is not installed.
    pub(crate) fn empty() -> Option<Self> {
        let store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?;
        let link = store.kiln_as("nix-store");
        fs::create_dir(store.directory().join("work")).unwrap();
        let mut both = Self { store, link, names: BTreeMap::new() };
        let store_dir = both.store.nix().store_dir().display().to_string();
        both.name("none", format!("{store_dir}/00000000000000000000000000000000-none"));
        both.name("store", store_dir);
        Some(both)
    }

    /// A store in which real Nix has built `top`, with all that it needs, and knows the other derivations.
    pub(crate) fn built() -> Option<Self> {
        let mut both = Self::empty()?;
        let attributes = ["lower", "multi", "top", "other", "bad", "needsBad", "wrongHash", "random", "slow"];
        let expression = attributes.map(|name| format!("({DERIVATIONS}).{name}")).join(" ");
        let paths = both.store.instantiate(&format!("[ {expression} ]"));
        for path in paths {
            let name = path.rsplit_once('-').unwrap().1.trim_end_matches(".drv").to_owned();
            let name = if path.ends_with("-needs-bad.drv") { "needs".to_owned() } else { name };
            both.name(&name, path);
        }
        let top = both.names["top"].clone();
        both.store.nix_lines("nix-store", ["-r", &top]);
        let output = both.store.nix_lines("nix-store", ["-q", "--outputs", &top]).remove(0);
        both.name("output", output);
        for path in both.store.nix_lines("nix-store", ["-q", "-R", "--include-outputs", &top]) {
            for (name, suffix) in [
                ("source", "-source"),
                ("lowest", "-lower"),
                ("self", "-multi"),
                ("dev", "-multi-dev"),
                ("bin", "-multi-bin"),
            ] {
                if path.ends_with(suffix) {
                    both.name(name, path.clone());
                }
            }
        }
        Some(both)
    }

    /// Gives a name to something of command lines.
    pub(crate) fn name(&mut self, name: &str, value: impl Into<String>) {
        self.names.insert(name.to_owned(), value.into());
    }

    /// What a name stands for.
    pub(crate) fn named(&self, name: &str) -> &str {
        &self.names[name]
    }

    /// Where the programs run.
    pub(crate) fn work(&self) -> PathBuf {
        self.store.directory().join("work")
    }

    /// The words of a line, which are divided by blanks; `$NAME` is what was named so, and what follows it.
    fn words(&self, line: &str) -> Vec<String> {
        let word = |word: &str| match word.split_once('$') {
            Some((before, rest)) => {
                let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
                format!("{before}{}{}", self.names[&rest[..end]], &rest[end..])
            }
            None => word.to_owned(),
        };
        line.split(' ').filter(|word| !word.is_empty()).map(word).collect()
    }

    /// Runs a line by one of the two, with something to read.
    pub(crate) fn run_reading(&self, whose: Whose, line: &str, input: &[u8]) -> Outcome {
        // Nix 2.8 gives up on finding roots if a process on the machine has a very long path open, as other tests do.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let outcome = self.run_once(whose, line, input);
            if !outcome.stderr.contains("File name too long") || Instant::now() > deadline {
                return outcome;
            }
            sleep(Duration::from_millis(200));
        }
    }

    fn run_once(&self, whose: Whose, line: &str, input: &[u8]) -> Outcome {
        let program = match whose {
            Whose::Nix => "nix-store",
            Whose::Kiln => self.link.to_str().unwrap(),
        };
        let mut command = self.store.nix().command(program);
        command.args(self.words(line)).current_dir(self.work());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // Who fails early does not read to the end.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().unwrap()
        });
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)
                .unwrap_or_else(|error| error.into_bytes().escape_ascii().to_string()),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a line by one of the two.
    pub(crate) fn run(&self, whose: Whose, line: &str) -> Outcome {
        self.run_reading(whose, line, b"")
    }

    /// Runs a line by Kiln, which must go well; what it prints.
    #[track_caller]
    pub(crate) fn kiln(&self, line: &str) -> String {
        let outcome = self.run(Whose::Kiln, line);
        assert_eq!(outcome.code, Some(0), "{line}: {}", outcome.stderr);
        outcome.stdout
    }

    /// Runs a line by both on the store as it is; their results must be the same, but for what is told. Kiln's is returned.
    #[track_caller]
    pub(crate) fn same(&self, line: &str) -> Outcome {
        self.compared(line).1
    }

    /// The same, with what is told.
    #[track_caller]
    pub(crate) fn same_wholly(&self, line: &str) {
        let (by_nix, by_kiln) = self.compared(line);
        assert_eq!(by_kiln.stderr, by_nix.stderr, "{line}");
    }

    #[track_caller]
    fn compared(&self, line: &str) -> (Outcome, Outcome) {
        let by_nix = self.run(Whose::Nix, line);
        let by_kiln = self.run(Whose::Kiln, line);
        assert_eq!(
            (by_kiln.code, &by_kiln.stdout),
            (by_nix.code, &by_nix.stdout),
            "{line}\nby Nix: {}\nby Kiln: {}",
            by_nix.stderr,
            by_kiln.stderr
        );
        (by_nix, by_kiln)
    }

    /// Runs a line by both, each on the store as it is now; their results, and what becomes of the store, must be the same.
    #[track_caller]
    pub(crate) fn same_change(&self, line: &str, input: &[u8]) -> Outcome {
        self.store.save();
        let by_nix = self.run_reading(Whose::Nix, line, input);
        let made_by_nix = self.store.contents();
        self.store.go_back();
        let by_kiln = self.run_reading(Whose::Kiln, line, input);
        let said = format!("{line}\nby Nix: {}\nby Kiln: {}", by_nix.stderr, by_kiln.stderr);
        assert_eq!((by_kiln.code, &by_kiln.stdout), (by_nix.code, &by_nix.stdout), "{said}");
        let made_by_kiln = self.store.contents();
        assert_eq!(made_by_kiln.rows, made_by_nix.rows, "{said}");
        assert_eq!(made_by_kiln.files, made_by_nix.files, "{said}");
        by_kiln
    }
}
