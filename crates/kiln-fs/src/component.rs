//! One component of a path.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use thiserror::Error;

/// A name that stands for something directly in a directory: not empty, not `.` or `..`, without slash and NUL, and of at
/// most 255 bytes.
///
/// Whatever takes a name below a place that others can write takes this type, so that no path gets there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component(CString);

/// A text isn't the name of something directly in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{}' is not a single component of a path", .0.escape_ascii())]
pub struct InvalidComponent(pub Vec<u8>);

impl Component {
    /// Takes `name` as a component.
    ///
    /// # Errors
    /// If it isn't one.
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self, InvalidComponent> {
        let name = name.as_ref();
        let invalid = || InvalidComponent(name.to_vec());
        kiln_nar::check_name(name).map_err(|_| invalid())?;
        CString::new(name).map(Self).map_err(|_| invalid())
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The name as a path of one component.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(self.as_bytes()))
    }

    /// The name with the NUL that system calls want.
    pub(crate) fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(self.as_bytes()).fmt(f)
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl TryFrom<&str> for Component {
    type Error = InvalidComponent;

    fn try_from(name: &str) -> Result<Self, InvalidComponent> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_names() {
        for good in [&b"a"[..], b"...", b"a\nb", b"\xff\xfe", b" "] {
            assert_eq!(Component::new(good).unwrap().as_bytes(), good);
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a/", b"a\0b", &[b'a'; 256]] {
            assert_eq!(Component::new(bad), Err(InvalidComponent(bad.to_vec())));
        }
    }
}
