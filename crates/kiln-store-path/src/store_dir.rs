//! The directory that holds a store, as paths in it are written.

use std::fmt;
use std::sync::Arc;

use crate::store_path::{InvalidStorePath, StorePath, shown};

/// The logical store directory, by default `/nix/store`: absolute, canonical, without a slash at its end. Where the
/// files really are may differ (a store below a root directory).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreDir(Arc<str>);

/// A text that cannot be a store directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' cannot be the store directory: it must be an absolute path without '.', '..', '//' or a slash at its end"
)]
pub struct InvalidStoreDir(pub String);

impl StoreDir {
    /// Takes an absolute, canonical path.
    ///
    /// # Errors
    /// Any other text.
    pub fn new(path: &str) -> Result<Self, InvalidStoreDir> {
        let canonical = canonicalise(path.as_bytes());
        if canonical.as_deref() == Some(path.as_bytes()) && path != "/" && !path.contains('\0') {
            Ok(Self(path.into()))
        } else {
            Err(InvalidStoreDir(path.chars().take(320).collect()))
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full path of an object in the store.
    pub fn print(&self, path: &StorePath) -> String {
        // Longhand, since this is done for every path that is asked about.
        let mut full = String::with_capacity(self.0.len() + 1 + path.base_name().len());
        full.push_str(&self.0);
        full.push('/');
        full.push_str(path.base_name());
        full
    }

    /// The full path of an object, for messages.
    pub fn display<'a>(&'a self, path: &'a StorePath) -> impl fmt::Display + use<'a> {
        Full { store_dir: &self.0, path }
    }

    /// Reads a full path that is directly in the store. Double slashes, `.` and `..` are resolved in the text first.
    ///
    /// # Errors
    /// See [`InvalidStorePath`]; a path below a store path is refused.
    pub fn parse(&self, path: impl AsRef<[u8]>) -> Result<StorePath, InvalidStorePath> {
        let path = path.as_ref();
        // Canonical paths, which are nearly all that come, need no resolving.
        let base_name = path.strip_prefix(self.0.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"));
        if let Some(Ok(direct)) = base_name.map(StorePath::from_base_name) {
            return Ok(direct);
        }
        match self.split(path)? {
            (store_path, rest) if rest.is_empty() => Ok(store_path),
            _ => Err(self.not_in_store(path)),
        }
    }

    /// Reads a full path in the store or below one of its objects, and splits it into the object and the rest: empty, or
    /// starting with `/`.
    ///
    /// # Errors
    /// See [`InvalidStorePath`].
    pub fn split(&self, path: impl AsRef<[u8]>) -> Result<(StorePath, Vec<u8>), InvalidStorePath> {
        let path = path.as_ref();
        let canonical = canonicalise(path).ok_or_else(|| InvalidStorePath::NotAbsolute(shown(path)))?;
        let below = canonical
            .strip_prefix(self.0.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"/"))
            .ok_or_else(|| self.not_in_store(path))?;
        let end = below.iter().position(|byte| *byte == b'/').unwrap_or(below.len());
        let (base_name, rest) = below.split_at_checked(end).unwrap_or((below, &[]));
        Ok((StorePath::from_base_name(base_name)?, rest.to_vec()))
    }

    fn not_in_store(&self, path: &[u8]) -> InvalidStorePath {
        InvalidStorePath::NotInStore { path: shown(path), store_dir: self.0.to_string() }
    }
}

struct Full<'a> {
    store_dir: &'a str,
    path: &'a StorePath,
}

impl fmt::Display for Full<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.store_dir, self.path)
    }
}

/// The path with double slashes, `.` and `..` resolved in the text alone; `None` if it is not absolute.
fn canonicalise(path: &[u8]) -> Option<Vec<u8>> {
    let relative = path.strip_prefix(b"/")?;
    let mut components = Vec::new();
    for component in relative.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    let mut canonical = vec![b'/'];
    canonical.extend(components.join(&b'/'));
    Some(canonical)
}

impl Default for StoreDir {
    /// `/nix/store`.
    fn default() -> Self {
        Self("/nix/store".into())
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIMPLE: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";

    #[test]
    fn reads_what_it_prints() {
        let store_dir = StoreDir::default();
        let path = store_dir.parse(format!("/nix/store/{SIMPLE}")).unwrap();
        assert_eq!(store_dir.print(&path), format!("/nix/store/{SIMPLE}"));
        assert_eq!(store_dir.display(&path).to_string(), store_dir.print(&path));
    }

    #[test]
    fn resolves_the_text_of_a_path() {
        let store_dir = StoreDir::default();
        for text in [
            format!("//nix/./store//{SIMPLE}"),
            format!("/nix/store/{SIMPLE}/"),
            format!("/nix/store/{SIMPLE}/bin/.."),
            format!("/../nix/store/{SIMPLE}"),
        ] {
            assert_eq!(store_dir.parse(&text).unwrap().base_name(), SIMPLE, "{text}");
        }
    }

    #[test]
    fn splits_a_path_below_an_object() {
        let store_dir = StoreDir::default();
        let (path, rest) = store_dir.split(format!("/nix/store/{SIMPLE}/bin/sh")).unwrap();
        assert_eq!((path.base_name(), &rest[..]), (SIMPLE, &b"/bin/sh"[..]));
        assert!(matches!(
            store_dir.parse(format!("/nix/store/{SIMPLE}/bin/sh")),
            Err(InvalidStorePath::NotInStore { .. })
        ));
    }

    #[test]
    fn refuses_what_is_elsewhere() {
        let store_dir = StoreDir::default();
        for text in ["/nix/store", "/nix", "/gnu/store/x", "/nix/store2/x", "/nix/storex", "/"] {
            assert!(matches!(store_dir.parse(text), Err(InvalidStorePath::NotInStore { .. })), "{text}");
        }
        assert!(matches!(store_dir.parse(SIMPLE), Err(InvalidStorePath::NotAbsolute(_))));
        assert!(matches!(store_dir.parse(""), Err(InvalidStorePath::NotAbsolute(_))));
    }

    #[test]
    fn is_absolute_and_canonical() {
        for wrong in
            ["", "nix/store", "/nix/store/", "/nix//store", "/nix/./store", "/nix/../store", "/", "/a\0b"]
        {
            assert!(StoreDir::new(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(StoreDir::new("/gnu/store").unwrap().as_str(), "/gnu/store");
    }
}
