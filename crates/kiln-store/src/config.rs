//! Where a local store is and how it is used (local-store specification, section 13).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_narinfo::PublicKeys;
use kiln_settings::LocalStoreUrl;
use kiln_store_path::StoreDir;

use crate::error::{Error, Result};

/// Looks up a variable of the environment.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The directories of a local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locations {
    /// The logical store directory: what store paths begin with, and part of every digest.
    pub store_dir: StoreDir,
    /// Where the files of the store really are.
    pub real_dir: PathBuf,
    /// Database, roots, locks.
    pub state_dir: PathBuf,
    /// Build logs.
    pub log_dir: PathBuf,
    /// Where build directories are made.
    pub build_dir: PathBuf,
}

impl Locations {
    /// The locations that a store URL's parameters and the environment give: `NIX_STORE_DIR` (or `NIX_STORE`),
    /// `NIX_STATE_DIR` and `NIX_LOG_DIR` count unless the URL says otherwise or names a root.
    ///
    /// # Errors
    /// A logical store directory that cannot be one, or a relative path.
    pub fn resolve(url: &LocalStoreUrl, environment: Lookup<'_>) -> Result<Self> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let usual_store = || {
            variable("NIX_STORE_DIR").or_else(|| variable("NIX_STORE")).unwrap_or_else(|| "/nix/store".into())
        };
        let logical = url.store.clone().unwrap_or_else(usual_store);
        let store_dir = logical.to_str().and_then(|text| StoreDir::new(text).ok()).ok_or_else(|| {
            configuration(
                "store directory",
                &logical,
                "an absolute path without '.', '..' or a slash at its end",
            )
        })?;
        let below_root = |below: &str| url.root.as_ref().map(|root| root.join(below));
        let or = |stated: &Option<PathBuf>, below: &str, usual: &dyn Fn() -> PathBuf| {
            stated.clone().or_else(|| below_root(below)).unwrap_or_else(usual)
        };
        let state_dir = or(&url.state, "nix/var/nix", &|| {
            variable("NIX_STATE_DIR").unwrap_or_else(|| "/nix/var/nix".into())
        });
        let locations = Self {
            real_dir: or(&url.real, "nix/store", &|| logical.clone()),
            log_dir: or(&url.log, "nix/var/log/nix", &|| {
                variable("NIX_LOG_DIR").unwrap_or_else(|| "/nix/var/log/nix".into())
            }),
            build_dir: url.build_dir.clone().unwrap_or_else(|| state_dir.join("builds")),
            state_dir,
            store_dir,
        };
        let named = [
            ("real store directory", &locations.real_dir),
            ("state directory", &locations.state_dir),
            ("log directory", &locations.log_dir),
            ("build directory", &locations.build_dir),
        ];
        if let Some((what, path)) = named.into_iter().find(|(_, path)| !path.is_absolute()) {
            return Err(configuration(what, path, "an absolute path"));
        }
        Ok(locations)
    }

    /// The root of the store of a user who cannot write to `/nix`: `nix/root` in his data directory, which is
    /// `XDG_DATA_HOME` or `~/.local/share`.
    pub fn root_of_user(environment: Lookup<'_>) -> Option<PathBuf> {
        let directory = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = directory("XDG_DATA_HOME")
            .or_else(|| directory("HOME").map(|home| home.join(".local").join("share")))?;
        Some(data.join("nix").join("root"))
    }

    /// Whether the files of the store are elsewhere than their paths say, so that builds need a mount namespace.
    pub fn is_diverted(&self) -> bool {
        Path::new(self.store_dir.as_str()) != self.real_dir
    }
}

fn configuration(what: &str, path: &Path, expected: &str) -> Error {
    Error::Configuration(format!("the {what} must be {expected}, not '{}'", path.display()))
}

/// Which store `auto` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Automatic {
    /// The local store at its usual place, which can be written to or is not there at all.
    Local(Locations),
    /// The daemon at this socket.
    Daemon(PathBuf),
    /// A store of the user's own, below a root in his data directory.
    OfUser(Locations),
}

impl Automatic {
    /// Looks where this process can write: the local store if it can be written to; else the daemon if it is there;
    /// else, unless the environment names a store, the user's own one. (Real Nix takes the local store, and fails, where
    /// there is one that the user cannot write to and no daemon.)
    ///
    /// # Errors
    /// As [`Locations::resolve`].
    pub fn choose(environment: Lookup<'_>) -> Result<Self> {
        let local = Locations::resolve(&LocalStoreUrl::default(), environment)?;
        if can_write(&local.state_dir) {
            return Ok(Self::Local(local));
        }
        let socket = match environment("NIX_DAEMON_SOCKET_PATH").filter(|path| !path.is_empty()) {
            Some(socket) => PathBuf::from(socket),
            None => local.state_dir.join("daemon-socket").join("socket"),
        };
        if socket.exists() {
            return Ok(Self::Daemon(socket));
        }
        let is_named = ["NIX_STORE_DIR", "NIX_STATE_DIR"].iter().any(|name| environment(name).is_some());
        let is_root = rustix::process::geteuid().is_root();
        match Locations::root_of_user(environment) {
            Some(root) if !is_root && !is_named => {
                let url = LocalStoreUrl { root: Some(root), ..LocalStoreUrl::default() };
                Locations::resolve(&url, environment).map(Self::OfUser)
            }
            _ => Ok(Self::Local(local)),
        }
    }
}

fn can_write(directory: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(directory, Access::READ_OK | Access::WRITE_OK).is_ok()
}

/// A local store and how it is used; the settings that concern it, parsed.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Its directories.
    pub locations: Locations,
    /// Nothing is written and no lock is taken.
    pub read_only: bool,
    /// `require-sigs`: paths from elsewhere need a signature or a content address.
    pub require_signatures: bool,
    /// `trusted-public-keys` and the public halves of `secret-key-files`.
    pub trusted_keys: PublicKeys,
    /// Group of the build users, in multi-user mode: the store directory belongs to it.
    pub build_users_gid: Option<u32>,
    /// `use-sqlite-wal`.
    pub use_write_ahead_log: bool,
    /// `fsync-metadata`: the database survives a power failure.
    pub sync_metadata: bool,
    /// `fsync-store-paths`: files are on the disk before their path becomes valid.
    pub sync_store_paths: bool,
    /// `sync-before-registering`: the whole file system is, each time.
    pub sync_before_registering: bool,
    /// Whether the feature `ca-derivations` is on, which needs tables of its own.
    pub realisations: bool,
    /// `gc-reserved-space`, in bytes.
    pub reserved_space: u64,
    /// `allow-symlinked-store`.
    pub allow_symlinked_store: bool,
    /// `ignored-acls`: extended attributes that are left alone.
    pub ignored_attributes: Vec<String>,
    /// `auto-optimise-store`: files of new paths that are there already are replaced by links.
    pub auto_optimise: bool,
    /// Longest wait for other processes that keep the database busy; Nix waits for ever.
    pub busy_deadline: Option<Duration>,
    /// `path-info-cache-size`: paths whose path info is kept in memory.
    pub path_info_cache_size: usize,
}

impl StoreConfig {
    /// A store with default settings.
    pub fn new(locations: Locations) -> Self {
        Self {
            locations,
            read_only: false,
            require_signatures: true,
            trusted_keys: PublicKeys::default(),
            build_users_gid: None,
            use_write_ahead_log: true,
            sync_metadata: true,
            sync_store_paths: false,
            sync_before_registering: false,
            realisations: false,
            reserved_space: 8 << 20,
            allow_symlinked_store: false,
            ignored_attributes: kiln_fs::canonical::IGNORED_ATTRIBUTES.map(str::to_owned).to_vec(),
            auto_optimise: false,
            busy_deadline: None,
            path_info_cache_size: 65_536,
        }
    }

    /// The store of a URL, with the parameters that are no places, too.
    ///
    /// # Errors
    /// As [`Locations::resolve`].
    pub fn from_url(url: &LocalStoreUrl, environment: Lookup<'_>) -> Result<Self> {
        let mut config = Self::new(Locations::resolve(url, environment)?);
        config.read_only = url.read_only;
        if let Some(require) = url.require_sigs {
            config.require_signatures = require;
        }
        Ok(config)
    }

    /// Whether files are brought to the disk before their path becomes valid.
    pub fn syncs_files(&self) -> bool {
        self.sync_store_paths || self.sync_before_registering
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_settings::StoreUrl;

    fn locations(url: &str, environment: &[(&str, &str)]) -> Result<Locations> {
        let StoreUrl::Local(url) = StoreUrl::parse(url).unwrap() else { panic!("{url} is not local") };
        Locations::resolve(&url, &lookup(environment))
    }

    fn lookup(environment: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| {
            environment.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
        }
    }

    fn check(url: &str, environment: &[(&str, &str)], expected: [&str; 5]) {
        let found = locations(url, environment).unwrap();
        let [store_dir, real, state, log, build] = expected;
        assert_eq!(found.store_dir.as_str(), store_dir, "{url}");
        let places = [&found.real_dir, &found.state_dir, &found.log_dir, &found.build_dir];
        assert_eq!(places, [real, state, log, build].map(Path::new), "{url}");
    }

    #[test]
    fn the_places_of_nix() {
        let usual = ["/nix/store", "/nix/store", "/nix/var/nix", "/nix/var/log/nix", "/nix/var/nix/builds"];
        check("local", &[], usual);
        check("local", &[("NIX_STATE_DIR", "")], usual);
        check(
            "/r",
            &[("NIX_STATE_DIR", "/ignored")],
            ["/nix/store", "/r/nix/store", "/r/nix/var/nix", "/r/nix/var/log/nix", "/r/nix/var/nix/builds"],
        );
        check(
            "local",
            &[("NIX_STORE_DIR", "/s"), ("NIX_STORE", "/t"), ("NIX_STATE_DIR", "/v"), ("NIX_LOG_DIR", "/l")],
            ["/s", "/s", "/v", "/l", "/v/builds"],
        );
        check(
            "local?root=/r&store=/s&real=/p&state=/v&log=/l&build-dir=/b",
            &[],
            ["/s", "/p", "/v", "/l", "/b"],
        );
    }

    #[test]
    fn places_must_be_absolute() {
        for url in ["local?state=v", "local?store=nix/store", "local?store=/nix/store/", "local?real=./x"] {
            assert!(matches!(locations(url, &[]), Err(Error::Configuration(_))), "{url}");
        }
    }

    #[test]
    fn a_root_diverts_the_store() {
        assert!(!locations("local", &[]).unwrap().is_diverted());
        assert!(locations("/r", &[]).unwrap().is_diverted());
    }

    #[test]
    fn the_root_of_a_user_is_in_his_data_directory() {
        let root = |environment: &[(&str, &str)]| Locations::root_of_user(&lookup(environment));
        assert_eq!(root(&[("HOME", "/h")]), Some("/h/.local/share/nix/root".into()));
        assert_eq!(root(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]), Some("/d/nix/root".into()));
        assert_eq!(root(&[("HOME", "relative")]), None);
        assert_eq!(root(&[]), None);
    }

    #[test]
    fn automatic_is_what_can_be_written_else_the_daemon() {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().to_str().unwrap();
        let environment = [("NIX_STATE_DIR", state), ("NIX_STORE_DIR", "/s")];
        assert!(matches!(Automatic::choose(&lookup(&environment)).unwrap(), Automatic::Local(_)));
        let socket = scratch.path().join("socket");
        std::fs::write(&socket, "").unwrap();
        let elsewhere =
            [("NIX_STATE_DIR", "/nonexistent/state"), ("NIX_DAEMON_SOCKET_PATH", socket.to_str().unwrap())];
        assert_eq!(Automatic::choose(&lookup(&elsewhere)).unwrap(), Automatic::Daemon(socket.clone()));
        let nowhere = [("NIX_STATE_DIR", "/nonexistent/state"), ("HOME", "/h")];
        assert!(
            matches!(Automatic::choose(&lookup(&nowhere)).unwrap(), Automatic::Local(_)),
            "a store that the environment names is not replaced by the user's own"
        );
    }
}
