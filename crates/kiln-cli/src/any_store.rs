//! The store that a command works on, whoever does it: this process, or a daemon for it.
//!
//! Commands that can do either way ask an [`AnyStore`] and have a [`Builder`] build; those that need the files and the
//! database of the store themselves want a local one, and say so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use kiln_narinfo::PathInfo;
use kiln_protocol::value::AddressingMethod;
use kiln_remote::RemoteStore;
use kiln_store::{
    Filter, Follow, LocalStore, NewObject, blocking, dump_filtered, references_first, replace_out_link,
    written_by,
};
use kiln_store_path::{StoreDir, StorePath, StorePathName};

use crate::failure::Failure;

/// What every store can tell of paths, and do for what keeps them.
pub(crate) trait StoreView {
    /// What its paths begin with.
    fn store_dir(&self) -> &StoreDir;

    /// What is known of a path, which must be valid.
    async fn valid_path_info(&self, path: &StorePath) -> Result<Arc<PathInfo>, Failure>;

    /// Whether a path is valid.
    async fn is_valid(&self, path: &StorePath) -> Result<bool, Failure>;

    /// Makes `link` a link to a path that keeps it.
    async fn add_out_link(&self, link: &Path, path: &StorePath) -> Result<(), Failure>;

    /// Adds what is at `source`, or of a directory what the filter wants.
    async fn add_tree(
        &self,
        object: NewObject,
        source: &Path,
        filter: Option<Filter>,
    ) -> Result<StorePath, Failure>;

    /// Adds a text, such as a derivation.
    async fn add_text(
        &self,
        name: &StorePathName,
        text: Vec<u8>,
        references: BTreeSet<StorePath>,
    ) -> Result<StorePath, Failure>;

    /// The store itself, for `what` only works there.
    fn local(&self, what: &str) -> Result<&LocalStore, Failure>;
}

impl StoreView for LocalStore {
    fn store_dir(&self) -> &StoreDir {
        self.store_dir()
    }

    async fn valid_path_info(&self, path: &StorePath) -> Result<Arc<PathInfo>, Failure> {
        Ok(self.valid_path_info(path).await?)
    }

    async fn is_valid(&self, path: &StorePath) -> Result<bool, Failure> {
        Ok(self.is_valid(path).await?)
    }

    async fn add_out_link(&self, link: &Path, path: &StorePath) -> Result<(), Failure> {
        Ok(self.add_out_link(link, path).await?)
    }

    async fn add_tree(
        &self,
        object: NewObject,
        source: &Path,
        filter: Option<Filter>,
    ) -> Result<StorePath, Failure> {
        Ok(self.add_tree(object, source, filter).await?.path.clone())
    }

    async fn add_text(
        &self,
        name: &StorePathName,
        text: Vec<u8>,
        references: BTreeSet<StorePath>,
    ) -> Result<StorePath, Failure> {
        Ok(self.add_text(name, text, references).await?.path.clone())
    }

    fn local(&self, _: &str) -> Result<&LocalStore, Failure> {
        Ok(self)
    }
}

/// A store that commands use without caring where it is.
#[derive(Clone)]
pub(crate) enum AnyStore {
    /// This process works on it.
    Local(LocalStore),
    /// A daemon does.
    Daemon(RemoteStore),
}

impl StoreView for AnyStore {
    fn store_dir(&self) -> &StoreDir {
        match self {
            Self::Local(store) => store.store_dir(),
            Self::Daemon(store) => store.store_dir(),
        }
    }

    async fn valid_path_info(&self, path: &StorePath) -> Result<Arc<PathInfo>, Failure> {
        match self {
            Self::Local(store) => Ok(store.valid_path_info(path).await?),
            Self::Daemon(store) => {
                let not_valid = || Failure::input(format!("path '{}' is not valid", store.print(path)));
                store.path_info(path).await?.ok_or_else(not_valid)
            }
        }
    }

    async fn is_valid(&self, path: &StorePath) -> Result<bool, Failure> {
        match self {
            Self::Local(store) => Ok(store.is_valid(path).await?),
            Self::Daemon(store) => Ok(store.is_valid(path).await?),
        }
    }

    async fn add_tree(
        &self,
        object: NewObject,
        source: &Path,
        filter: Option<Filter>,
    ) -> Result<StorePath, Failure> {
        let store = match self {
            Self::Local(store) => return StoreView::add_tree(store, object, source, filter).await,
            Self::Daemon(store) => store,
        };
        let source = source.to_owned();
        let mut archive =
            written_by(move |out| dump_filtered(&source, filter, out).map_err(std::io::Error::other));
        Ok(store.add_object(of_daemon(object), &mut archive).await?)
    }

    async fn add_text(
        &self,
        name: &StorePathName,
        text: Vec<u8>,
        references: BTreeSet<StorePath>,
    ) -> Result<StorePath, Failure> {
        match self {
            Self::Local(store) => StoreView::add_text(store, name, text, references).await,
            Self::Daemon(store) => Ok(store.add_text(name.clone(), text, references).await?),
        }
    }

    async fn add_out_link(&self, link: &Path, path: &StorePath) -> Result<(), Failure> {
        match self {
            Self::Local(store) => Ok(store.add_out_link(link, path).await?),
            // As with Nix: there is nothing here that a link could lead to.
            Self::Daemon(store) if !store.address().is_here() => Ok(()),
            Self::Daemon(store) => {
                // Until the link keeps it.
                store.add_temp_roots([path.clone()]).await?;
                let (store_dir, link, path) = (store.store_dir().clone(), link.to_owned(), path.clone());
                let link = blocking(move || replace_out_link(&store_dir, &link, &path)).await?;
                Ok(store.add_indirect_root(&link).await?)
            }
        }
    }

    fn local(&self, what: &str) -> Result<&LocalStore, Failure> {
        match self {
            Self::Local(store) => Ok(store),
            Self::Daemon(store) => Err(only_local(what, store.name(), store.address().is_here())),
        }
    }
}

/// An object as daemons are told of it.
pub(crate) fn of_daemon(object: NewObject) -> kiln_remote::NewObject {
    let NewObject { name, method, algorithm, references } = object;
    kiln_remote::NewObject { name, method: AddressingMethod { method, algorithm }, references }
}

/// That something can't be done by way of a daemon, of this machine or of another one.
pub(crate) fn only_local(what: &str, daemon: &str, is_here: bool) -> Failure {
    Failure::input(format!(
        "the store is that of the daemon at '{daemon}', and {what} works only on local stores"
    ))
    .with_hint(if is_here {
        "'--store local' works on the store itself, for those who may write to it"
    } else {
        "do it on that machine, or copy to it with 'kiln copy --to' what was made here"
    })
}

impl AnyStore {
    /// Those of `paths` that are valid.
    pub(crate) async fn valid_among(&self, paths: Vec<StorePath>) -> Result<BTreeSet<StorePath>, Failure> {
        match self {
            Self::Local(store) => Ok(store.valid_among(paths).await?),
            Self::Daemon(store) => Ok(store.valid_among(paths.into_iter().collect(), false).await?),
        }
    }

    /// The valid paths that refer to a path.
    pub(crate) async fn referrers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>, Failure> {
        match self {
            Self::Local(store) => Ok(store.referrers(path).await?),
            Self::Daemon(store) => Ok(store.referrers(path).await?),
        }
    }

    /// The valid derivations that have a path as output.
    pub(crate) async fn valid_derivers(&self, path: &StorePath) -> Result<BTreeSet<StorePath>, Failure> {
        match self {
            Self::Local(store) => Ok(store.valid_derivers(path).await?),
            Self::Daemon(store) => Ok(store.valid_derivers(path).await?),
        }
    }

    /// All that `start` refers to, with what is known of it.
    pub(crate) async fn closure_infos(
        &self,
        start: Vec<StorePath>,
    ) -> Result<BTreeMap<StorePath, PathInfo>, Failure> {
        match self {
            Self::Local(store) => Ok(store.closure_infos(start, Follow::REFERENCES).await?),
            Self::Daemon(store) => {
                let infos = store.closure_infos(start).await?.into_iter();
                Ok(infos.map(|(path, info)| (path, Arc::unwrap_or_clone(info))).collect())
            }
        }
    }

    /// All that `start` refers to, with itself.
    pub(crate) async fn closure(&self, start: Vec<StorePath>) -> Result<BTreeSet<StorePath>, Failure> {
        match self {
            Self::Local(store) => Ok(store.closure(start, Follow::REFERENCES).await?),
            Self::Daemon(store) => Ok(store.closure_infos(start).await?.into_keys().collect()),
        }
    }

    /// All that refers to `start`, which is valid, with itself.
    pub(crate) async fn referrers_closure(
        &self,
        start: Vec<StorePath>,
    ) -> Result<BTreeSet<StorePath>, Failure> {
        let store = match self {
            Self::Local(store) => return Ok(store.closure(start, Follow::REFERRERS).await?),
            Self::Daemon(store) => store,
        };
        let mut found: BTreeSet<StorePath> = start.iter().cloned().collect();
        let mut queue = start;
        while let Some(path) = queue.pop() {
            for referrer in store.referrers(&path).await? {
                if found.insert(referrer.clone()) {
                    queue.push(referrer);
                }
            }
        }
        Ok(found)
    }

    /// The paths, each after those among them that it refers to. Those that are not valid refer to nothing.
    pub(crate) async fn references_first(
        &self,
        paths: BTreeSet<StorePath>,
    ) -> Result<Vec<StorePath>, Failure> {
        let store = match self {
            Self::Local(store) => return Ok(store.references_first(paths).await?),
            Self::Daemon(store) => store,
        };
        let mut infos = HashMap::new();
        for path in &paths {
            if let Some(info) = store.path_info(path).await? {
                infos.insert(path.clone(), info);
            }
        }
        Ok(references_first(&paths, |path| infos.get(path).into_iter().flat_map(|info| &info.references)))
    }

    /// The outputs of a derivation, as far as it is known what they are; and whether that is all of them.
    pub(crate) async fn outputs(
        &self,
        derivation: &StorePath,
    ) -> Result<(BTreeSet<StorePath>, bool), Failure> {
        let store = match self {
            Self::Local(store) => store,
            Self::Daemon(store) => {
                let outputs = store.output_map(derivation).await?;
                let count = outputs.len();
                let known: BTreeSet<StorePath> = outputs.into_values().flatten().collect();
                let is_all = known.len() == count;
                return Ok((known, is_all));
            }
        };
        let parsed = store.read_derivation(derivation).await?;
        let mut outputs: BTreeSet<StorePath> =
            parsed.known_output_paths().map(|(_, path)| path.clone()).collect();
        if outputs.len() < parsed.outputs.len() {
            let hash = store.hash_modulo(derivation, Arc::clone(&parsed)).await?;
            for name in parsed.outputs.keys() {
                let made = store.realisation(&hash.realisation_id(name.clone())).await?;
                outputs.extend(made.map(|made| made.output_path));
            }
        }
        let is_all = outputs.len() == parsed.outputs.len();
        Ok((outputs, is_all))
    }
}
