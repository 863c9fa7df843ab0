//! What runs of the program leave behind, and should not.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Kiln, SharedStore};

/// What ends with the program does so a moment later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where runs of the program could leave something.
struct Places<'a> {
    /// What no other process mentions.
    scratch: &'a Path,
    store: &'a Path,
    state: &'a Path,
}

impl Kiln {
    /// Everything that a run of the program should have taken away when it ended: processes, mounts, directories and locks
    /// of builds. Waits a little for it to go.
    pub fn remains(&self) -> Vec<String> {
        let (store, state) = (self.root().join("nix/store"), self.root().join("nix/var/nix"));
        Places { scratch: self.directory(), store: &store, state: &state }.remains()
    }

    /// Waits until a file below the scratch directory is there, however long a busy machine takes.
    ///
    /// # Panics
    /// If it isn't there after half a minute.
    pub fn wait_for(&self, path: &Path) {
        self.wait_until(&path.display().to_string(), || path.exists());
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// If it isn't after half a minute.
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            sleep(Duration::from_millis(10));
        }
    }

    /// Processes that have the scratch directory in their command line, or in what is mounted for them.
    pub fn processes(&self) -> Vec<String> {
        processes(self.directory())
    }
}

impl SharedStore {
    /// As [`Kiln::remains`].
    pub fn remains(&self) -> Vec<String> {
        let (store, state) = (self.nix().store_dir(), self.nix().state_dir());
        Places { scratch: self.directory(), store: &store, state: &state }.remains()
    }

    /// Processes and mounts that are left, after waiting a little for them to go.
    pub fn processes_left(&self) -> Vec<String> {
        patiently(|| [processes(self.directory()), mounts(self.directory())].concat())
    }
}

impl Places<'_> {
    fn remains(&self) -> Vec<String> {
        patiently(|| [processes(self.scratch), mounts(self.scratch), self.files()].concat())
    }

    fn files(&self) -> Vec<String> {
        let names = |directory: &Path| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let is_left = |name: &String| {
            [".lock", ".chroot", ".check", ".tmp"].iter().any(|suffix| name.ends_with(suffix))
                || name.starts_with("tmp-")
                || name.ends_with("-tmp-kiln")
                || name.starts_with('.') && name != ".links"
        };
        let mut found: Vec<String> = names(self.store).into_iter().filter(is_left).collect();
        found.extend(names(&self.state.join("builds")));
        found
            .extend(names(&self.state.join("temproots")).into_iter().map(|name| format!("temproots/{name}")));
        found
    }
}

/// What is there still after a little while.
fn patiently(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let remains = look();
        if remains.is_empty() || Instant::now() > deadline {
            return remains;
        }
        sleep(Duration::from_millis(20));
    }
}

fn processes(scratch: &Path) -> Vec<String> {
    let Some(scratch) = scratch.file_name().and_then(OsStr::to_str) else { return Vec::new() };
    let own = std::process::id().to_string();
    let mentions = |directory: &Path, file: &str| {
        let bytes = fs::read(directory.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(scratch)
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_process = name.bytes().all(|byte| byte.is_ascii_digit()) && name != own;
        let directory = entry.path();
        // What mounts the tests' own namespace has is another question.
        let is_strangers =
            fs::read_link(directory.join("ns/mnt")).ok() != fs::read_link("/proc/self/ns/mnt").ok();
        if is_process
            && (mentions(&directory, "cmdline") || (is_strangers && mentions(&directory, "mountinfo")))
        {
            let command = fs::read(directory.join("cmdline")).unwrap_or_default();
            found.push(format!("process {name}: {}", String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

fn mounts(scratch: &Path) -> Vec<String> {
    let scratch = scratch.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter(|line| line.contains(&scratch)).map(|line| format!("mount {line}")).collect()
}
