//! Files and trees that the command line names.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kiln_fs::{Component, Directory};

use crate::failure::{Failure, While};

/// The directory that `path` is in, opened, and its name there. What is at the path itself is not looked at, so that a
/// link stays a link.
pub(crate) fn of(path: &Path) -> Result<(Directory, Component), Failure> {
    // What ends in `/`, `.` or `..` means what is there, not a name.
    let last = path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').next();
    let canonical = match last {
        Some(b"" | b"." | b"..") => {
            path.canonicalize().doing(|| format!("looking for '{}'", path.display()))?
        }
        _ => path.to_owned(),
    };
    let (Some(name), Some(parent)) = (canonical.file_name(), canonical.parent()) else {
        return Err(Failure::input(format!(
            "'{}' is not a file or directory within another one",
            path.display()
        )));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory = Directory::open(parent).doing(|| format!("looking for '{}'", path.display()))?;
    let name = Component::new(name.as_bytes())?;
    match directory.status(&name)? {
        Some(_) => Ok((directory, name)),
        None => {
            let missing: Result<_, io::Error> = Err(io::ErrorKind::NotFound.into());
            missing.doing(|| format!("looking for '{}'", path.display()))
        }
    }
}
