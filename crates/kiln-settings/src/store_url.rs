//! Store URLs: which store a program works with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ssh_url::{SshProtocol, SshUrl};
use crate::value::{Kind, SettingValue, ValueError};

/// The longest URL that is looked at, in bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// Which store is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// The local store if it can be written to, else the daemon (`auto`, or nothing).
    Auto,
    /// The local store (`local`, `local?…`, or a directory that has a store of its own).
    Local(LocalStoreUrl),
    /// The daemon at its usual socket (`daemon`) or at another one (`unix://PATH`).
    Daemon {
        /// The socket, if it isn't the usual one.
        socket: Option<PathBuf>,
        /// Parameters; decoded, not interpreted.
        parameters: BTreeMap<String, OsString>,
    },
    /// The store of another machine (`ssh-ng://HOST`, `ssh://HOST`).
    Ssh(SshUrl),
    /// Another kind of store, as it was written: a binary cache, ….
    Other(String),
}

/// The parameters of a local store's URL.
///
/// Where things are: the logical store directory is `store` (else `/nix/store`; it is what paths begin with), the
/// physical one `real`, the state directory `state`, that of logs `log`. What isn't given follows from `root` if that
/// is given, and otherwise is the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalStoreUrl {
    /// The directory below which a whole store is (`ROOT/nix/store`, `ROOT/nix/var/nix`, …).
    pub root: Option<PathBuf>,
    /// The logical store directory.
    pub store: Option<PathBuf>,
    /// The physical store directory.
    pub real: Option<PathBuf>,
    /// The state directory.
    pub state: Option<PathBuf>,
    /// The directory of build logs.
    pub log: Option<PathBuf>,
    /// The directory of build directories.
    pub build_dir: Option<PathBuf>,
    /// Whether paths from elsewhere need signatures, if not as in the settings.
    pub require_sigs: Option<bool>,
    /// Nothing is written, no lock is taken.
    pub read_only: bool,
    /// Paths of this store need no signatures when it is a substituter.
    pub trusted: bool,
    /// The lower, the earlier it is asked as a substituter.
    pub priority: Option<u64>,
    /// Other parameters; decoded, not interpreted.
    pub other: BTreeMap<String, OsString>,
}

/// Why a text is no store URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// Too long.
    #[error("store URL is too long: expected at most 64 KiB, got {0} bytes")]
    TooLong(usize),
    /// A NUL, which no path can have.
    #[error("store URL has a NUL at byte {0}")]
    Nul(usize),
    /// A `%` without two hexadecimal digits.
    #[error("store URL '{url}': invalid '%' at byte {position}: expected two hexadecimal digits after it")]
    Percent {
        /// The URL.
        url: String,
        /// Where the `%` is.
        position: usize,
    },
    /// A parameter without `=`.
    #[error("store URL '{url}': parameter '{parameter}' has no value: expected NAME=VALUE")]
    NoValue {
        /// The URL.
        url: String,
        /// The parameter.
        parameter: String,
    },
    /// A parameter that stands there twice.
    #[error("store URL '{url}': parameter '{parameter}' is given twice")]
    Repeated {
        /// The URL.
        url: String,
        /// The parameter.
        parameter: String,
    },
    /// A parameter with a value that it can't have.
    #[error("store URL '{url}': parameter '{parameter}' has an invalid value: {reason}")]
    Value {
        /// The URL.
        url: String,
        /// The parameter.
        parameter: String,
        /// What was expected.
        reason: ValueError,
    },
    /// The name of a machine that ssh could take for something else.
    #[error(
        "store URL '{0}' names no machine: expected ssh-ng://[USER@]HOST[:PORT], or the same with ssh://"
    )]
    Host(String),
    /// Neither a URL nor a path.
    #[error(
        "'{0}' is no store: expected auto, local, daemon, the path of a directory (with a '/'), or a URL such as \
         unix://SOCKET or https://HOST"
    )]
    Unknown(String),
}

impl StoreUrl {
    /// The store that a text names, as in `--store`, the setting `store` and the variable `NIX_REMOTE`.
    pub fn parse(url: &str) -> Result<StoreUrl, StoreUrlError> {
        check_text(url)?;
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let parameters = || parse_query(url, query);
        match base {
            "" | "auto" if query.is_empty() => Ok(StoreUrl::Auto),
            "" | "auto" => Ok(StoreUrl::Other(url.to_owned())),
            "local" | "local://" => Ok(StoreUrl::Local(LocalStoreUrl::from_parameters(url, parameters()?)?)),
            "daemon" | "unix" | "unix://" | "daemon://" => {
                Ok(StoreUrl::Daemon { socket: None, parameters: parameters()? })
            }
            _ => {
                if let Some(socket) = base.strip_prefix("unix://") {
                    let offset = base.len() - socket.len();
                    let socket = PathBuf::from(decode(url, socket, offset)?);
                    return Ok(StoreUrl::Daemon { socket: Some(socket), parameters: parameters()? });
                }
                if let Some(place) = SshProtocol::of(base) {
                    return SshUrl::new(url, place, parameters()?).map(StoreUrl::Ssh);
                }
                let path = base.strip_prefix("local://").filter(|path| path.starts_with('/'));
                match path {
                    Some(path) => Self::at_root(url, decode(url, path, "local://".len())?, parameters()?),
                    None if base.contains("://") => Ok(StoreUrl::Other(url.to_owned())),
                    None if base.contains('/') => Self::at_root(url, base.into(), parameters()?),
                    None => Err(StoreUrlError::Unknown(url.to_owned())),
                }
            }
        }
    }

    /// The store below a directory.
    fn at_root(
        url: &str,
        root: OsString,
        mut parameters: BTreeMap<String, OsString>,
    ) -> Result<StoreUrl, StoreUrlError> {
        if parameters.insert("root".to_owned(), root).is_some() {
            return Err(StoreUrlError::Repeated { url: url.to_owned(), parameter: "root".to_owned() });
        }
        LocalStoreUrl::from_parameters(url, parameters).map(StoreUrl::Local)
    }

    /// The URL; parsing it gives the same store.
    #[must_use]
    pub fn render(&self) -> String {
        match self {
            StoreUrl::Auto => "auto".to_owned(),
            StoreUrl::Local(local) => with_query("local", &local.to_parameters()),
            StoreUrl::Daemon { socket: None, parameters } => with_query("daemon", parameters),
            StoreUrl::Daemon { socket: Some(socket), parameters } => {
                with_query(&format!("unix://{}", encode(socket.as_os_str().as_bytes(), true)), parameters)
            }
            StoreUrl::Ssh(machine) => machine.render(),
            StoreUrl::Other(url) => url.clone(),
        }
    }
}

impl LocalStoreUrl {
    fn from_parameters(
        url: &str,
        mut parameters: BTreeMap<String, OsString>,
    ) -> Result<LocalStoreUrl, StoreUrlError> {
        fn value<T: SettingValue>(
            url: &str,
            name: &str,
            parameters: &mut BTreeMap<String, OsString>,
        ) -> Result<Option<T>, StoreUrlError> {
            let Some(text) = parameters.remove(name) else { return Ok(None) };
            let parsed = T::parse(&text.to_string_lossy());
            let located =
                |reason| StoreUrlError::Value { url: url.to_owned(), parameter: name.to_owned(), reason };
            parsed.map(Some).map_err(located)
        }
        let require_sigs = value(url, "require-sigs", &mut parameters)?;
        let read_only = value(url, "read-only", &mut parameters)?.unwrap_or(false);
        let trusted = value(url, "trusted", &mut parameters)?.unwrap_or(false);
        let priority = value(url, "priority", &mut parameters)?;
        let mut path =
            |name: &str| parameters.remove(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let (root, store, real) = (path("root"), path("store"), path("real"));
        let (state, log, build_dir) = (path("state"), path("log"), path("build-dir"));
        Ok(LocalStoreUrl {
            root,
            store,
            real,
            state,
            log,
            build_dir,
            require_sigs,
            read_only,
            trusted,
            priority,
            other: parameters,
        })
    }

    fn to_parameters(&self) -> BTreeMap<String, OsString> {
        let mut parameters = self.other.clone();
        let mut add = |name: &str, value: Option<OsString>| {
            parameters.extend(value.map(|value| (name.to_owned(), value)));
        };
        let path = |path: &Option<PathBuf>| path.as_deref().map(Path::as_os_str).map(ToOwned::to_owned);
        let truth = |value: bool| value.then(|| OsString::from("true"));
        add("root", path(&self.root));
        add("store", path(&self.store));
        add("real", path(&self.real));
        add("state", path(&self.state));
        add("log", path(&self.log));
        add("build-dir", path(&self.build_dir));
        add("require-sigs", self.require_sigs.map(|value| value.to_string().into()));
        add("read-only", truth(self.read_only));
        add("trusted", truth(self.trusted));
        add("priority", self.priority.map(|value| value.to_string().into()));
        parameters
    }
}

/// Checks what must be so of every URL.
pub(crate) fn check_text(url: &str) -> Result<(), StoreUrlError> {
    if url.len() > MAX_LENGTH {
        return Err(StoreUrlError::TooLong(url.len()));
    }
    match url.find('\0') {
        Some(position) => Err(StoreUrlError::Nul(position)),
        None => Ok(()),
    }
}

/// The parameters after a `?`, decoded.
pub(crate) fn parse_query(url: &str, query: &str) -> Result<BTreeMap<String, OsString>, StoreUrlError> {
    let mut parameters = BTreeMap::new();
    let mut offset = url.len() - query.len();
    for part in query.split('&') {
        if !part.is_empty() {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| StoreUrlError::NoValue { url: url.to_owned(), parameter: part.to_owned() })?;
            let value_offset = offset.saturating_add(name.len()).saturating_add(1);
            let name = decode(url, name, offset)?.to_string_lossy().into_owned();
            let value = decode(url, value, value_offset)?;
            if parameters.insert(name.clone(), value).is_some() {
                return Err(StoreUrlError::Repeated { url: url.to_owned(), parameter: name });
            }
        }
        offset = offset.saturating_add(part.len()).saturating_add(1);
    }
    Ok(parameters)
}

/// Undoes percent-encoding. `offset` is where the text is in the URL.
pub(crate) fn decode(url: &str, text: &str, offset: usize) -> Result<OsString, StoreUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut encoded = text.bytes().enumerate();
    while let Some((at, byte)) = encoded.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || encoded.next().and_then(|(_, digit)| char::from(digit).to_digit(16));
        let decoded = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        // A NUL can be in no path.
        match decoded.filter(|byte| *byte != 0) {
            Some(byte) => bytes.push(byte),
            None => {
                return Err(StoreUrlError::Percent {
                    url: url.to_owned(),
                    position: offset.saturating_add(at),
                });
            }
        }
    }
    Ok(OsString::from_vec(bytes))
}

pub(crate) fn with_query(base: &str, parameters: &BTreeMap<String, OsString>) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name.as_bytes(), false), encode(value.as_bytes(), true)))
        .collect();
    if pairs.is_empty() { base.to_owned() } else { format!("{base}?{}", pairs.join("&")) }
}

/// Percent-encoding of all but letters, digits, `-._~` and, in paths, slashes.
pub(crate) fn encode(bytes: &[u8], slashes: bool) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || slashes && byte == b'/' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl SettingValue for StoreUrl {
    const KIND: Kind = Kind::Store;

    fn parse(text: &str) -> Result<StoreUrl, ValueError> {
        StoreUrl::parse(text).map_err(|error| ValueError(format!("a store URL ({error})")))
    }

    fn render(&self) -> String {
        StoreUrl::render(self)
    }

    fn to_json(&self) -> Value {
        json!(StoreUrl::render(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn local(url: &str) -> LocalStoreUrl {
        match StoreUrl::parse(url).unwrap() {
            StoreUrl::Local(local) => local,
            other => panic!("{url} is {other:?}"),
        }
    }

    #[test]
    fn kinds_of_stores() {
        for (url, rendered) in [
            ("", "auto"),
            ("auto", "auto"),
            ("local", "local"),
            ("local://", "local"),
            ("local?", "local"),
            ("daemon", "daemon"),
            ("unix://", "daemon"),
            ("unix:///run/s%6fcket?root=/x", "unix:///run/socket?root=/x"),
            ("/mnt", "local?root=/mnt"),
            ("./mnt", "local?root=./mnt"),
            ("/mnt%20?state=/s%20t", "local?root=/mnt%2520&state=/s%20t"),
            ("local:///mnt%20", "local?root=/mnt%20"),
            ("https://cache.example.org?priority=3", "https://cache.example.org?priority=3"),
            ("ssh-ng://host", "ssh-ng://host"),
            ("file:///tmp/cache", "file:///tmp/cache"),
        ] {
            assert_eq!(StoreUrl::parse(url).map(|store| store.render()), Ok(rendered.to_owned()), "{url}");
        }
    }

    #[test]
    fn parameters_of_local_stores() {
        let parsed = local(
            "local?root=/r&store=/s&real=/p%FF&state=/v&log=/l&build-dir=/b&require-sigs=false&read-only=true\
             &trusted=1&priority=7&other=x%26y",
        );
        assert_eq!(parsed.root, Some("/r".into()));
        assert_eq!(parsed.real, Some(OsString::from_vec(b"/p\xff".to_vec()).into()));
        assert_eq!((parsed.store, parsed.state), (Some("/s".into()), Some("/v".into())));
        assert_eq!((parsed.log, parsed.build_dir), (Some("/l".into()), Some("/b".into())));
        assert_eq!((parsed.require_sigs, parsed.read_only, parsed.trusted), (Some(false), true, true));
        assert_eq!(parsed.priority, Some(7));
        assert_eq!(parsed.other.get("other"), Some(&OsString::from("x&y")));
        assert_eq!(local("local?root="), LocalStoreUrl::default());
    }

    #[test]
    fn errors_say_what_and_where() {
        for (url, message) in [
            ("locale", "'locale' is no store: expected auto, local, daemon, the path of a directory"),
            ("local?root", "parameter 'root' has no value"),
            ("local?a=1&a=2", "parameter 'a' is given twice"),
            ("/x?root=/y", "parameter 'root' is given twice"),
            ("local?root=%2", "invalid '%' at byte 11"),
            ("local?root=%zz", "invalid '%' at byte 11"),
            ("local?root=%00", "invalid '%' at byte 11"),
            ("local?read-only=maybe", "parameter 'read-only' has an invalid value: expected true or false"),
        ] {
            let error = StoreUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains(message), "{url}: {error}");
        }
        assert_eq!(StoreUrl::parse("/\0"), Err(StoreUrlError::Nul(1)));
        assert_eq!(StoreUrl::parse(&"x".repeat(MAX_LENGTH + 1)), Err(StoreUrlError::TooLong(MAX_LENGTH + 1)));
    }

    proptest! {
        /// Whatever parses is the same store when its rendering is parsed.
        #[test]
        fn rendering_is_stable(url in prop_oneof![
            ".*",
            "(local|daemon|auto|unix://)?/?[a-z%0-9]{0,6}(\\?[a-z=&%/0-9é-]{0,30})?",
            "ssh-ng://[a-z@:%0-9\\[\\]-]{0,9}(\\?(compress|ssh-key|remote-program|x)=[a-z %0-9]{0,5})?",
            "local\\?(root|store|read-only|x)=[a-z/%0-9é]{0,6}(&(log|priority|y)=[0-9%a-f]{0,4})?",
        ]) {
            if let Ok(store) = StoreUrl::parse(&url) {
                prop_assert_eq!(StoreUrl::parse(&store.render()), Ok(store));
            }
        }
    }
}
