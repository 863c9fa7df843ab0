//! Files and trees that the command line names.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kiln_fs::{Component, Directory};

use crate::failure::{Failure, While};

/// The path by the name that the thing has: what ends in `/`, `.` or `..` means what is there, whatever it is called.
pub(crate) fn named(path: &Path) -> Result<PathBuf, Failure> {
    match path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').next() {
        Some(b"" | b"." | b"..") => path.canonicalize().doing(|| format!("looking for '{}'", path.display())),
        _ => Ok(path.to_owned()),
    }
}

/// The directory that `path` is in, opened, and its name there. What is at the path itself is not looked at, so that a
/// link stays a link; but it has to be there.
pub(crate) fn of(path: &Path) -> Result<(Directory, Component), Failure> {
    let (directory, name) = split(&named(path)?)?;
    match directory.status(&name)? {
        Some(_) => Ok((directory, name)),
        None => Err(Failure::input(format!("'{}' does not exist", path.display()))),
    }
}

/// The same for something that is to be made and must not be there yet.
pub(crate) fn for_new(path: &Path) -> Result<(Directory, Component), Failure> {
    let (directory, name) = split(path)?;
    match directory.status(&name)? {
        None => Ok((directory, name)),
        Some(_) => Err(Failure::input(format!("'{}' exists already", path.display()))),
    }
}

fn split(path: &Path) -> Result<(Directory, Component), Failure> {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(Failure::input(format!(
            "'{}' is not a file or directory within another one",
            path.display()
        )));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory = Directory::open(parent).doing(|| format!("looking for '{}'", path.display()))?;
    Ok((directory, Component::new(name.as_bytes())?))
}
