//! The attributes of a derivation, as its builder finds them in the environment.

use crate::error::BuiltinError;
use kiln_events::quoted;
use kiln_fs::{Component, Directory};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The attributes of one derivation.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(&'a BTreeMap<Vec<u8>, Vec<u8>>);

impl<'a> Attributes<'a> {
    pub(crate) fn new(environment: &'a BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        Self(environment)
    }

    /// An attribute that need not be there.
    pub(crate) fn find(self, name: &str) -> Option<&'a [u8]> {
        self.0.get(name.as_bytes()).map(Vec::as_slice)
    }

    /// An attribute that has to be there.
    pub(crate) fn get(self, name: &'static str) -> Result<&'a [u8], BuiltinError> {
        self.find(name).ok_or(BuiltinError::MissingAttribute(name))
    }

    /// An attribute that has to be there and to be text.
    pub(crate) fn text(self, name: &'static str) -> Result<&'a str, BuiltinError> {
        let value = self.get(name)?;
        std::str::from_utf8(value).map_err(|_| invalid(name, value, "it is not UTF-8"))
    }

    /// Whether a flag is set, that is, whether the attribute is `1`.
    pub(crate) fn flag(self, name: &str) -> bool {
        self.find(name) == Some(b"1")
    }

    /// The path of the output `out`.
    pub(crate) fn out(self) -> Result<PathBuf, BuiltinError> {
        Ok(path(self.get("out")?))
    }

    /// Where the output `out` is to be made: the directory that it will be in, and its name there.
    pub(crate) fn out_place(self) -> Result<(Directory, Component), BuiltinError> {
        let value = self.get("out")?;
        let no_path = || invalid("out", value, "it is no path of a file in a directory");
        let out = path(value);
        let (Some(parent), Some(name)) = (out.parent(), out.file_name()) else { return Err(no_path()) };
        let name = Component::new(name.as_bytes()).map_err(|_| no_path())?;
        Ok((Directory::open(parent)?, name))
    }
}

/// Says why the value of an attribute can't be used.
pub(crate) fn invalid(name: &'static str, value: &[u8], reason: &str) -> BuiltinError {
    BuiltinError::InvalidAttribute { name, value: quoted(value), reason: reason.to_owned() }
}

/// Bytes as a path.
pub(crate) fn path(bytes: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_path_buf()
}
