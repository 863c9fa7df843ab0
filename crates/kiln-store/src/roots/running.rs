//! Roots that running processes are: what `/proc` says that they use of the store.
//!
//! Everything is read that this process may read. Whatever can't be read, or ends while it is looked at, is passed over. What
//! is read is hostile text: only whole store paths are taken from it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use kiln_store_path::{StoreDir, StorePath};
use memchr::memmem::Finder;

use crate::error::{During, Result};
use crate::roots::{Holder, Root, is_of_the_machine};

/// Most bytes of a process's environment that are looked at; the kernel allows no more than 6 MiB.
const LARGEST_ENVIRONMENT: u64 = 8 << 20;

/// Longest line of a list of mappings: a path may have 4096 bytes, each of which may be written as four.
const LONGEST_LINE: u64 = 32 << 10;

/// The kernel's settings that name programs.
const KERNEL_FILES: [&str; 3] = ["modprobe", "fbsplash", "poweroff_cmd"];

/// Finds all such roots, whether they are valid or not. `real_dir` is where the store's files are, if that isn't what paths
/// begin with.
pub(crate) fn find(proc: &Path, store_dir: &StoreDir, real_dir: Option<&Path>) -> Result<Vec<Root>> {
    let places = [Some(store_dir.as_str().as_bytes()), real_dir.map(|dir| dir.as_os_str().as_bytes())];
    let mut search = Search {
        places: places
            .into_iter()
            .flatten()
            .map(|place| [place, b"/"].concat())
            .map(|place| Finder::new(&place).into_owned())
            .collect(),
        found: BTreeSet::new(),
    };
    for entry in entries(proc)? {
        if entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            search.process(&entry.path())?;
        }
    }
    for name in KERNEL_FILES {
        let file = proc.join("sys/kernel").join(name);
        search.text_of(&file)?;
    }
    let found = search.found.into_iter();
    Ok(found.map(|(path, file)| Root { path, holder: Holder::Running(file) }).collect())
}

/// What there is; nothing in the place of what may not be read or has gone.
fn readable<T>(result: io::Result<T>, place: &Path) -> Result<Option<T>> {
    match result {
        Err(error) if is_of_the_machine(error.raw_os_error()) => Err(error).during("read", place),
        result => Ok(result.ok()),
    }
}

fn entries(directory: &Path) -> Result<impl Iterator<Item = fs::DirEntry>> {
    Ok(readable(fs::read_dir(directory), directory)?.into_iter().flatten().flatten())
}

struct Search {
    /// What paths begin with, with the slash.
    places: Vec<Finder<'static>>,
    found: BTreeSet<(StorePath, std::path::PathBuf)>,
}

impl Search {
    fn process(&mut self, process: &Path) -> Result<()> {
        for name in ["exe", "cwd"] {
            self.link(&process.join(name));
        }
        for entry in entries(&process.join("fd"))? {
            self.link(&entry.path());
        }
        self.maps(&process.join("maps"))?;
        self.text_of(&process.join("environ"))
    }

    fn link(&mut self, link: &Path) {
        if let Ok(target) = fs::read_link(link) {
            self.path(target.as_os_str(), link);
        }
    }

    /// Takes a path that is a whole text.
    fn path(&mut self, target: &OsStr, file: &Path) {
        let target = target.as_bytes();
        if self.places.iter().any(|place| target.starts_with(place.needle())) {
            self.text(target, file);
        }
    }

    fn maps(&mut self, file: &Path) -> Result<()> {
        let Some(maps) = readable(File::open(file), file)? else { return Ok(()) };
        let mut lines = BufReader::new(maps);
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Ok(()),
            }
            // Before the path there are numbers and letters only.
            if let Some(path) = line.iter().position(|&byte| byte == b'/').and_then(|start| line.get(start..))
            {
                self.path(OsStr::from_bytes(path), file);
            }
        }
    }

    fn text_of(&mut self, file: &Path) -> Result<()> {
        let mut text = Vec::new();
        if let Some(opened) = readable(File::open(file), file)?
            && opened.take(LARGEST_ENVIRONMENT).read_to_end(&mut text).is_ok()
        {
            self.text(&text, file);
        }
        Ok(())
    }

    /// Takes all paths that a text has somewhere.
    fn text(&mut self, text: &[u8], file: &Path) {
        for place in &self.places {
            for start in place.find_iter(text) {
                let name = text.get(start + place.needle().len()..).unwrap_or_default();
                let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(byte);
                let length = name.iter().take(256).take_while(|byte| is_of_name(byte)).count();
                if let Ok(path) = StorePath::from_base_name(name.get(..length).unwrap_or_default()) {
                    self.found.insert((path, file.to_path_buf()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const PATHS: [&str; 6] = [
        "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-exe",
        "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-fd",
        "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-mapped",
        "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-a",
        "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-b+c.d_e?f=g",
        "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-kmod",
    ];

    #[test]
    fn everything_that_a_process_uses_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let process = scratch.path().join("4711");
        fs::create_dir_all(process.join("fd")).unwrap();
        fs::create_dir_all(scratch.path().join("sys/kernel")).unwrap();
        fs::create_dir(scratch.path().join("acpi")).unwrap();
        let [exe, fd, mapped, a, b, kmod] = PATHS;
        symlink(format!("/nix/store/{exe} (deleted)"), process.join("exe")).unwrap();
        symlink("/home", process.join("cwd")).unwrap();
        symlink(format!("/real/{fd}/lib"), process.join("fd/3")).unwrap();
        symlink(format!("pipe:[/nix/store/{fd}]"), process.join("fd/4")).unwrap();
        fs::write(
            process.join("maps"),
            format!(
                "7f0-7f1 r--p 00000000 fe:00 1234    /nix/store/{mapped}/lib/libc.so.6\n7f1-7f2 rw-p 00000000 00:00 0\n"
            ),
        )
        .unwrap();
        fs::write(
            process.join("environ"),
            format!("PATH=/nix/store/{a}/bin:/nix/store/{b}\0X=/nix/store/short\0"),
        )
        .unwrap();
        fs::write(scratch.path().join("sys/kernel/modprobe"), format!("/nix/store/{kmod}/bin/modprobe\n"))
            .unwrap();
        let found = find(scratch.path(), &StoreDir::default(), Some(Path::new("/real"))).unwrap();
        let found: BTreeSet<String> =
            found.into_iter().map(|root| root.path.base_name().to_owned()).collect();
        assert_eq!(found, PATHS.map(str::to_owned).into());
    }

    #[test]
    fn this_process_is_among_those_that_are_looked_at() {
        let scratch = tempfile::tempdir().unwrap();
        let store = scratch.path().canonicalize().unwrap();
        let path = StorePath::from_base_name(PATHS[0]).unwrap();
        let file = File::create(store.join(PATHS[0])).unwrap();
        let store_dir = StoreDir::new(store.to_str().unwrap()).unwrap();
        let holds =
            || find(Path::new("/proc"), &store_dir, None).unwrap().iter().any(|root| root.path == path);
        assert!(holds());
        drop(file);
        assert!(!holds());
    }
}
