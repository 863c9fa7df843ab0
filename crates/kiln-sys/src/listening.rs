//! Sockets that clients come in by: made at a path, or made by systemd and passed on.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::descriptors::copy_inherited;

/// The number of the first descriptor that systemd passes on.
const FIRST_PASSED: i32 = 3;

/// The most sockets that it may pass on.
const MOST_PASSED: i32 = 64;

/// What systemd says in the environment of a service that it has started for its sockets (`sd_listen_fds(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    count: i32,
}

/// What systemd has passed on makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidActivation(String);

impl fmt::Display for InvalidActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unexpected systemd environment variables: {}", self.0)
    }
}

impl std::error::Error for InvalidActivation {}

impl Activation {
    /// Reads the environment; `None` if there are no sockets.
    ///
    /// # Errors
    /// The variables are meant for another process, or are no numbers.
    pub fn detect(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, InvalidActivation> {
        let number = |name: &str| -> Result<Option<i64>, InvalidActivation> {
            let Some(value) = variable(name) else { return Ok(None) };
            let number = value.to_str().and_then(|text| text.parse().ok());
            let invalid = || InvalidActivation(format!("{name} is '{}', expected a number", value.display()));
            number.ok_or_else(invalid).map(Some)
        };
        let Some(count) = number("LISTEN_FDS")? else { return Ok(None) };
        let pid = i64::from(std::process::id());
        match number("LISTEN_PID")? {
            Some(meant) if meant == pid => {}
            Some(other) => {
                return Err(InvalidActivation(format!("LISTEN_PID is {other}, this is process {pid}")));
            }
            None => return Err(InvalidActivation("LISTEN_FDS is set, and LISTEN_PID is not".to_owned())),
        }
        match i32::try_from(count) {
            Ok(count @ 1..=MOST_PASSED) => Ok(Some(Self { count })),
            _ => Err(InvalidActivation(format!("LISTEN_FDS is {count}, expected 1 to {MOST_PASSED}"))),
        }
    }

    /// The sockets.
    ///
    /// # Errors
    /// They are not there.
    pub fn sockets(self) -> Result<Vec<OwnedFd>, InvalidActivation> {
        let missing = |number, errno| InvalidActivation(format!("descriptor {number}: {errno}"));
        (FIRST_PASSED..FIRST_PASSED + self.count)
            .map(|number| copy_inherited(number).map_err(|errno| missing(number, errno)))
            .collect()
    }
}

/// A socket's file, which is removed in the end, unless somebody has put another one in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Makes a socket at `path`, of any length, with these permissions and in place of whatever is there. Its directory
    /// is made too. The file should be dropped before the socket is closed: nobody is to meet one that nobody listens on.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, Self)> {
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        // Under another name until it is ready, so that nobody meets one that is not.
        let mut scratch = path.as_os_str().to_owned();
        scratch.push(format!(".{}", std::process::id()));
        let scratch = PathBuf::from(scratch);
        let socket = bind_anywhere(&scratch)?;
        let metadata = fs::set_permissions(&scratch, Permissions::from_mode(mode))
            .and_then(|()| fs::symlink_metadata(&scratch))
            .and_then(|metadata| fs::rename(&scratch, path).map(|()| metadata))
            .inspect_err(|_| drop(fs::remove_file(&scratch)))?;
        Ok((socket, Self { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) }))
    }

    /// Where it was made.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is there now.
    pub fn found(&self) -> Found {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.identity => Found::InPlace,
            Ok(_) => Found::Replaced,
            Err(_) => Found::Gone,
        }
    }
}

/// What is in the place of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The socket.
    InPlace,
    /// Nothing that can be seen.
    Gone,
    /// Something that somebody else has put there.
    Replaced,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.found() == Found::InPlace {
            // What stays is replaced by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// An address has room for a hundred bytes, so that the way goes by the directory's descriptor.
fn bind_anywhere(path: &Path) -> io::Result<UnixListener> {
    let _ = fs::remove_file(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory = fs::File::open(parent)?;
    UnixListener::bind(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(variables: &[(&str, &str)]) -> Result<Option<Activation>, String> {
        let find = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.into());
        Activation::detect(find).map_err(|error| error.to_string())
    }

    #[test]
    fn systemd_says_how_many_sockets_there_are() {
        let own = std::process::id().to_string();
        assert_eq!(detect(&[]), Ok(None));
        assert_eq!(detect(&[("LISTEN_FDS", "2"), ("LISTEN_PID", &own)]), Ok(Some(Activation { count: 2 })));
        for wrong in [
            &[("LISTEN_FDS", "1")][..],
            &[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")],
            &[("LISTEN_FDS", "0"), ("LISTEN_PID", &own)],
            &[("LISTEN_FDS", "many"), ("LISTEN_PID", &own)],
        ] {
            let error = detect(wrong).unwrap_err();
            assert!(error.starts_with("unexpected systemd environment variables: "), "{error}");
        }
    }
}
