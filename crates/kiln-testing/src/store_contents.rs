//! All that is in a store, to compare what different programs have made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::shared_store::SharedStore;

/// What a database says, apart from the numbers of its rows and the times of registration.
const ROWS: &str = "
    select 'ValidPaths', path, hash, deriver, narSize, ultimate, sigs, ca from ValidPaths order by path;
    select 'Refs', a.path, b.path from Refs
        join ValidPaths a on a.id = referrer join ValidPaths b on b.id = reference order by 2, 3;
    select 'DerivationOutputs', a.path, o.id, o.path from DerivationOutputs o
        join ValidPaths a on a.id = o.drv order by 2, 3;
";

/// All that is in a store, and does not depend on when it came to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreContents {
    /// The rows of its database, each after the name of its table, the columns divided by `|`.
    pub rows: Vec<String>,
    /// Its files and directories, by the path below the store directory: kind, mode, size, owner, time, target. Locks, and
    /// the pool of hard links, are not among them.
    pub files: BTreeMap<String, String>,
    /// The names of the locks that are left.
    pub locks: Vec<String>,
    /// The logs of builds as Nix reads them, by the paths of their derivations; bytes that are not ASCII are escaped.
    pub logs: BTreeMap<String, String>,
}

impl SharedStore {
    /// All that is in the store now.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn contents(&self) -> StoreContents {
        let directory = self.nix().store_dir();
        let (mut files, mut locks) = (BTreeMap::new(), Vec::new());
        for name in names(&directory) {
            if name.ends_with(".lock") {
                locks.push(name);
            } else if name != ".links" {
                describe(&directory, name, &mut files);
            }
        }
        StoreContents { rows: self.rows(), files, locks, logs: self.logs() }
    }

    /// Which names of the store directory, those of the pool of hard links among them, are the same file.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn hard_links(&self) -> BTreeSet<BTreeSet<String>> {
        let root = self.nix().store_dir();
        let mut files: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        let mut open = names(&root);
        while let Some(name) = open.pop() {
            let path = root.join(&name);
            let status =
                fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if status.is_dir() {
                open.extend(names(&path).into_iter().map(|child| format!("{name}/{child}")));
            } else {
                files.entry(status.ino()).or_default().insert(name);
            }
        }
        files.into_values().collect()
    }

    fn rows(&self) -> Vec<String> {
        let database = self.nix().state_dir().join("db/db.sqlite");
        let output = Command::new("sqlite3")
            .args(["-cmd", ".timeout 60000"])
            .args(["-readonly", "-nullvalue", "NULL"])
            .arg(database)
            .arg(ROWS)
            .output()
            .unwrap_or_else(|error| panic!("sqlite3: {error}"));
        assert!(output.status.success(), "sqlite3: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    fn logs(&self) -> BTreeMap<String, String> {
        let drvs = self.nix().log_dir().join("drvs");
        let mut logs = BTreeMap::new();
        for prefix in names(&drvs) {
            for rest in names(&drvs.join(&prefix)) {
                let name = format!("{prefix}{}", rest.trim_end_matches(".bz2"));
                let derivation = self.nix().store_dir().join(name).display().to_string();
                let output = self.nix().output("nix-store", ["-l", &derivation]);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                logs.insert(derivation, output.stdout.escape_ascii().to_string());
            }
        }
        logs
    }
}

/// The names in a directory, sorted; none if it isn't there.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn describe(root: &Path, name: String, files: &mut BTreeMap<String, String>) {
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        let path = root.join(&name);
        let status =
            fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut text = format!("{:o} {}:{} at {}", status.mode(), status.uid(), status.gid(), status.mtime());
        if status.is_dir() {
            open.extend(names(&path).into_iter().map(|child| format!("{name}/{child}")));
        } else {
            text += &format!(" {} bytes", status.size());
        }
        if let Ok(target) = fs::read_link(&path) {
            text += &format!(" to {}", target.display());
        }
        files.insert(name, text);
    }
}
