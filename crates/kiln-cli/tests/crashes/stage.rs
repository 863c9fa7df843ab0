//! A store in which a scenario crashes, and what is looked at afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln_fs::FailPoint;
use kiln_testing::{Ran, SharedStore};

use crate::scenario::Scenario;

/// When the program is killed.
#[derive(Debug)]
pub(crate) enum Crash {
    /// When it comes to a fail point for this time.
    At(FailPoint, u64),
    /// After this time.
    After(Duration),
}

/// A store, ready for the scenario, and what comes of it without a crash.
pub(crate) struct Stage<'a> {
    scenario: &'a Scenario,
    store: SharedStore,
    /// The output that is damaged.
    damaged: Option<String>,
    stdout: String,
    /// Outputs that are valid together or not at all.
    together: Vec<BTreeSet<String>>,
    /// How long the program takes.
    pub(crate) duration: Duration,
}

impl<'a> Stage<'a> {
    /// `None`, loudly, without real Nix.
    pub(crate) fn set(scenario: &'a Scenario) -> Option<Self> {
        let mut store = SharedStore::find(env!("CARGO_BIN_EXE_kiln"))?;
        if scenario.has_build_users {
            store = store.with_build_users();
        }
        for (name, value) in scenario.settings {
            store = store.option(name, value);
        }
        store.write("kiln.toml", (scenario.recipe)().text());
        store.write("data", "data\n");
        let mut stage = Self {
            scenario,
            store,
            damaged: None,
            stdout: String::new(),
            together: Vec::new(),
            duration: Duration::ZERO,
        };
        if scenario.is_built || scenario.is_cached {
            let outputs = stage.store.kiln(["build", "--no-link", ":top"]);
            if scenario.is_cached {
                stage.fill_cache(outputs.lines());
            }
            stage.damaged = scenario.damages.map(|file| damage(outputs.lines(), file));
        }
        if !scenario.is_built {
            stage.store.collect();
        }
        stage.store.save();
        let start = Instant::now();
        stage.stdout = stage.run().stdout;
        stage.duration = start.elapsed();
        stage.store.verify();
        assert_eq!(stage.store.remains(), [""; 0]);
        stage.together = stage.groups();
        Some(stage)
    }

    /// Makes the store what it was before.
    pub(crate) fn begin(&self) {
        self.store.go_back();
    }

    fn command(&self) -> Command {
        let mut command = self.store.kiln_command(self.scenario.arguments);
        if self.scenario.is_cached {
            command.args(["--option", "substituters", &self.cache(), "--option", "require-sigs", "false"]);
            // Nothing is built instead.
            command.args(["--option", "max-jobs", "0"]);
        }
        command
    }

    fn cache(&self) -> String {
        format!("file://{}", self.store.directory().join("cache").display())
    }

    fn fill_cache(&self, outputs: Vec<&str>) {
        let cache = self.cache();
        let copy = ["copy", "--extra-experimental-features", "nix-command", "--to", &cache];
        self.store.nix().run("nix", copy.iter().chain(&outputs));
    }

    /// Runs the program to its end.
    fn run(&self) -> Ran {
        let ran: Ran = self.command().output().unwrap().into();
        assert_eq!(ran.code, Some(self.scenario.code), "{}", ran.stderr);
        ran
    }

    /// Runs the program into a crash; false if it ended before.
    pub(crate) fn crash(&self, crash: &Crash) -> bool {
        let mut command = self.command();
        if let Crash::At(point, pass) = crash {
            command.env("KILN_FAIL_POINT", format!("{}:{pass}", point.name()));
        }
        let said = File::create(self.store.directory().join("stderr")).unwrap();
        let mut child = command.stdout(Stdio::null()).stderr(said).spawn().unwrap();
        if let Crash::After(time) = crash {
            std::thread::sleep(*time);
            child.kill().unwrap();
        }
        child.wait().unwrap().signal() == Some(9)
    }

    /// What must be so as soon as what ends with the program has ended.
    pub(crate) fn check_crash(&self, crash: &Crash) {
        let left = self.store.processes_left();
        assert!(left.is_empty(), "{}: after a crash at {crash:?}: {left:#?}", self.scenario.name);
        for lock in fs::read_dir(self.store.nix().state_dir().join("userpool")).into_iter().flatten() {
            let lock = lock.unwrap().path();
            assert!(File::open(&lock).unwrap().try_lock().is_ok(), "{} after {crash:?}", lock.display());
        }
        self.verify(crash);
        let valid = self.valid();
        // What is fetched is fetched path by path.
        for outputs in self.together.iter().filter(|_| !self.scenario.is_cached) {
            let count = outputs.intersection(&valid).count();
            assert!(count == 0 || count == outputs.len(), "{crash:?}: half of {outputs:?} is valid");
        }
    }

    /// The same command does now what it would have done, and leaves nothing behind.
    pub(crate) fn check_repetition(&self, crash: &Crash) {
        let ran: Ran = self.command().output().unwrap().into();
        assert_eq!(ran.code, Some(self.scenario.code), "{}, {crash:?}: {}", self.scenario.name, ran.stderr);
        assert_eq!(ran.stdout, self.stdout, "{}, {crash:?}", self.scenario.name);
        assert_eq!(self.store.remains(), [""; 0], "{}, {crash:?}", self.scenario.name);
        self.store.verify();
        assert_eq!(self.groups(), self.together, "{}, {crash:?}", self.scenario.name);
        assert_eq!(self.not_valid(), [""; 0], "{}, {crash:?}", self.scenario.name);
    }

    /// What is in the store's directory besides valid paths.
    fn not_valid(&self) -> Vec<String> {
        let (directory, valid) = (self.store.nix().store_dir(), self.valid());
        let paths =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path().display().to_string());
        paths.filter(|path| !valid.contains(path) && !path.ends_with("/.links")).collect()
    }

    /// A collection by real Nix leaves nothing of the store.
    pub(crate) fn collect(&self) {
        self.store.collect();
        let contents = self.store.contents();
        assert_eq!((contents.rows.len(), contents.files.len()), (0, 0), "{contents:?}");
    }

    /// Has real Nix compare the store with its database. What was damaged before may be so still.
    fn verify(&self, crash: &Crash) {
        let output = self.store.nix().output("nix-store", ["--verify", "--check-contents"]);
        let said = String::from_utf8_lossy(&output.stderr);
        let is_old = |line: &str| {
            self.damaged.as_ref().is_some_and(|path| line.contains(path) && line.contains("was modified"))
        };
        let is_bad = |line: &&str| line.contains("error") || line.contains("disappeared");
        let is_sum = |line: &&str| line.contains("warning: not all");
        let bad: Vec<&str> =
            said.lines().filter(is_bad).filter(|line| !is_old(line) && !is_sum(line)).collect();
        assert!(bad.is_empty(), "{}, after {crash:?}: {said}", self.scenario.name);
    }

    fn valid(&self) -> BTreeSet<String> {
        self.query("select path from ValidPaths").into_iter().collect()
    }

    /// The outputs of each derivation that are valid.
    fn groups(&self) -> Vec<BTreeSet<String>> {
        let rows = self.query(
            "select o.drv || '|' || o.path from DerivationOutputs o join ValidPaths v on v.path = o.path",
        );
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows {
            let (derivation, path) = row.split_once('|').unwrap();
            groups.entry(derivation.to_owned()).or_default().insert(path.to_owned());
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort();
        groups
    }

    fn query(&self, query: &str) -> Vec<String> {
        let database = self.store.nix().state_dir().join("db/db.sqlite");
        let output = Command::new("sqlite3")
            .args(["-cmd", ".timeout 60000"])
            .arg("-readonly")
            .arg(database)
            .arg(query)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Changes a file below one of the outputs, and says which one.
fn damage(outputs: Vec<&str>, file: &str) -> String {
    let output = outputs.iter().find(|output| PathBuf::from(output).join(file).exists()).unwrap();
    let path = PathBuf::from(output).join(file);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "damaged\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    (*output).to_owned()
}
