//! A store that gets paths, and substituters for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_events::{ActivityId, Event, EventSender, EventSink};
use kiln_hash::{Algorithm, Hash, Sha256};
use kiln_http::TransferSettings;
use kiln_narinfo::{NarInfo, PathInfo, PublicKeys, SecretKey};
use kiln_settings::LocalStoreUrl;
use kiln_store::{LocalStore, StoreConfig, Verdict as Verified};
use kiln_store_path::{StoreDir, StorePath};
use kiln_substitute::{
    Existing, Fetched, LookupCache, Network, Substituters, Surroundings, TimeToLive, TrustPolicy,
};
use kiln_testing::ScratchDirectory;

/// The path of the sample caches that all others in them belong to.
pub(crate) const DEP2: &str = "lj3q75s8vxysliflp8z0a7w75mpl98wh-dep2";

/// A path of the sample caches that refers to nothing.
pub(crate) const SIMPLE: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d-simple";

pub(crate) fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

pub(crate) fn path(base_name: &str) -> StorePath {
    StorePath::from_base_name(base_name).unwrap()
}

pub(crate) struct Bench {
    pub(crate) store: LocalStore,
    pub(crate) transfers: TransferSettings,
    pub(crate) connections: usize,
    /// Certificates of authorities, if they aren't the system's.
    pub(crate) certificates: Option<Vec<u8>>,
    pub(crate) netrc: Option<Vec<u8>>,
    pub(crate) trust: TrustPolicy,
    pub(crate) time_to_live: TimeToLive,
    pub(crate) events: EventSender,
    heard: Arc<Heard>,
    directory: ScratchDirectory,
}

/// What was said.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl EventSink for Heard {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// The configuration of a store below a directory.
fn config(root: &Path, keys: &PublicKeys) -> StoreConfig {
    let url = LocalStoreUrl { root: Some(root.to_path_buf()), ..LocalStoreUrl::default() };
    let mut config = StoreConfig::from_url(&url, &|_| None).unwrap();
    config.sync_metadata = false;
    config.reserved_space = 0;
    config.trusted_keys = keys.clone();
    config
}

impl Bench {
    /// An empty store for `/nix/store`, and settings that make failures quick.
    pub(crate) async fn new() -> Self {
        let directory = ScratchDirectory::new();
        Self::with(directory, |_| {}).await
    }

    pub(crate) async fn with(directory: ScratchDirectory, change: impl FnOnce(&mut StoreConfig)) -> Self {
        let key = fs::read_to_string(data("kiln-test-1.pub")).unwrap().parse().unwrap();
        let keys = PublicKeys::from_iter([key, signing_key().public_key()]);
        let mut config = config(&directory.path().join("store"), &keys);
        change(&mut config);
        let transfers = TransferSettings {
            connect_timeout: Duration::from_secs(2),
            stalled_download_timeout: Duration::from_secs(2),
            download_attempts: 3,
            ..TransferSettings::default()
        };
        let heard = Arc::new(Heard::default());
        Self {
            store: LocalStore::open(config, Arc::new(|_| {})).await.unwrap(),
            transfers,
            connections: 25,
            certificates: None,
            netrc: None,
            trust: TrustPolicy { require_signatures: true, keys },
            time_to_live: TimeToLive::default(),
            events: EventSender::new(heard.clone()),
            heard,
            directory,
        }
    }

    /// A directory for what else a test needs.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn substituters(&self, urls: &[String]) -> Substituters {
        let (substituters, errors) = self.open(urls).await;
        assert!(errors.is_empty(), "{errors:?}");
        substituters
    }

    pub(crate) async fn open(&self, urls: &[String]) -> (Substituters, Vec<kiln_substitute::Error>) {
        Substituters::open(urls, &self.surroundings().await)
    }

    pub(crate) async fn surroundings(&self) -> Surroundings {
        let directory = self.directory.path().join("cache");
        let (netrc, certificates) = (self.netrc.as_deref(), self.certificates.clone());
        Surroundings {
            store_dir: self.store.store_dir().clone(),
            network: Network::new(self.transfers.clone(), self.connections, netrc, certificates),
            known: LookupCache::open(Some(directory), self.time_to_live).await.unwrap(),
            daemon_socket: "/nonexistent/socket".into(),
            ssh_options: None,
            trust: self.trust.clone(),
        }
    }

    /// Fetches one path from the first substituter that has it; the errors of all if none can give it.
    pub(crate) async fn obtain(
        &self,
        substituters: &Substituters,
        wanted: &StorePath,
    ) -> Result<Fetched, String> {
        let mut search = substituters.find(wanted);
        let mut errors = Vec::new();
        while let Some(candidate) = search.next().await {
            let existing = Existing::Stays;
            let fetching = substituters.fetch(
                &candidate,
                &self.store,
                existing,
                (None, std::future::ready(())),
                (&self.events, ActivityId::NONE),
            );
            match fetching.await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => errors.push(error.to_string()),
            }
        }
        errors.extend(search.troubles().iter().map(ToString::to_string));
        Err(errors.join("\n"))
    }

    /// Fetches one path from one substituter, which has to fail; nothing may be left of it.
    pub(crate) async fn refuse(&self, url: &str, wanted: &StorePath) -> String {
        let substituters = self.substituters(&[url.to_owned()]).await;
        let error = self.obtain(&substituters, wanted).await.unwrap_err();
        self.assert_nothing_left(wanted).await;
        error
    }

    pub(crate) async fn assert_nothing_left(&self, wanted: &StorePath) {
        assert!(!self.store.is_valid(wanted).await.unwrap());
        let left = self.store.real_path(wanted);
        assert!(fs::symlink_metadata(&left).is_err(), "{} is left", left.display());
    }

    /// Fetches a path and all that it needs, references first.
    pub(crate) async fn obtain_closure(&self, substituters: &Substituters, wanted: &[StorePath]) {
        let missing = substituters.missing(wanted.to_vec(), &self.store).await.unwrap();
        assert!(missing.unknown.is_empty() && missing.troubles.is_empty(), "{missing:?}");
        let mut left: BTreeSet<StorePath> = missing.will_substitute;
        while !left.is_empty() {
            let before = left.len();
            for path in left.clone() {
                let candidate = substituters.find(&path).next().await.unwrap();
                let references: Vec<StorePath> =
                    candidate.info().split_references().others.into_iter().collect();
                if self.store.valid_among(references.clone()).await.unwrap().len() == references.len() {
                    self.obtain(substituters, &path).await.unwrap();
                    left.remove(&path);
                }
            }
            assert!(left.len() < before, "these wait for each other: {left:?}");
        }
    }

    /// Compares a valid path with what its narinfo says, and its files with what was registered.
    pub(crate) async fn assert_as_stated(&self, stated: &PathInfo) {
        let found = self.store.valid_path_info(&stated.path).await.unwrap();
        let found = PathInfo { registration_time: 0, ..(*found).clone() };
        assert_eq!(found, *stated);
        let verdict = self.store.verify_contents(&stated.path).await.unwrap();
        assert_eq!(verdict, Verified::Good);
    }

    /// What was said so far.
    pub(crate) fn heard(&self) -> String {
        self.heard.0.lock().unwrap().join("\n")
    }
}

pub(crate) fn signing_key() -> SecretKey {
    SecretKey::generate("bench", [7; 32]).unwrap()
}

/// The narinfos of a cache in a directory.
pub(crate) fn narinfos(cache: &Path) -> BTreeMap<StorePath, NarInfo> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(cache).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "narinfo") {
            let narinfo = NarInfo::parse(&StoreDir::default(), "sample", &fs::read(&file).unwrap()).unwrap();
            found.insert(narinfo.info.path.clone(), narinfo);
        }
    }
    found
}

/// A binary cache that is being made.
pub(crate) struct Making<'a>(pub(crate) &'a Path);

impl<'a> Making<'a> {
    pub(crate) fn new(root: &'a Path, priority: i64) -> Self {
        fs::create_dir_all(root.join("nar")).unwrap();
        fs::write(root.join("nix-cache-info"), format!("StoreDir: /nix/store\nPriority: {priority}\n"))
            .unwrap();
        Self(root)
    }

    /// A path whose archive is this, signed; `change` may then make the narinfo another one.
    pub(crate) fn add(
        &self,
        path: &StorePath,
        references: &[StorePath],
        nar: &[u8],
        change: impl FnOnce(&mut NarInfo),
    ) {
        let store_dir = StoreDir::default();
        let mut info = PathInfo::new(path.clone(), Sha256::of(nar), nar.len() as u64);
        info.references = references.iter().cloned().collect();
        info.sign(&store_dir, &signing_key()).unwrap();
        let mut narinfo = NarInfo {
            info,
            url: format!("nar/{}.nar", path.digest()),
            compression: kiln_narinfo::Compression::None,
            file_hash: Some(Hash::of(Algorithm::Sha256, nar)),
            file_size: Some(nar.len() as u64),
        };
        fs::write(self.0.join(&narinfo.url), nar).unwrap();
        change(&mut narinfo);
        fs::write(self.0.join(format!("{}.narinfo", path.digest())), narinfo.to_text(&store_dir)).unwrap();
    }
}

/// The archive of a file with these contents.
pub(crate) fn nar(contents: &[u8]) -> Vec<u8> {
    let string = |bytes: &[u8]| {
        let mut text = (bytes.len() as u64).to_le_bytes().to_vec();
        text.extend_from_slice(bytes);
        text.resize(text.len().next_multiple_of(8), 0);
        text
    };
    let words: [&[u8]; 7] = [b"nix-archive-1", b"(", b"type", b"regular", b"contents", contents, b")"];
    words.into_iter().flat_map(string).collect()
}

/// The store path with this number.
pub(crate) fn numbered(number: usize) -> StorePath {
    let digits = b"0123456789abcdfghijklmnpqrsvwxyz";
    let mut digest = [b'0'; 32];
    let mut left = number;
    for digit in digest.iter_mut().rev() {
        *digit = digits[left % 32];
        left /= 32;
    }
    path(&format!("{}-p{number}", std::str::from_utf8(&digest).unwrap()))
}
