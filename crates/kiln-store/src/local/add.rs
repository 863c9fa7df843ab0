//! Taking in objects: from archives, streams, texts and the file system.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use kiln_fs::{CaseHack, Component, Directory, FailPoint, RestoreOptions, fail_point};
use kiln_hash::{Algorithm, Sha256};
use kiln_nar::NarDigest;
use kiln_narinfo::PathInfo;
use kiln_store_path::{ContentAddress, ContentAddressMethod, References, StorePath, StorePathName};

use crate::blocking::waiting;
use crate::error::{During, Error, Result};
use crate::local::LocalStore;
use crate::local::content::Content;
use crate::local::filter::{Filter, copy_filtered};
use crate::local::scratch::Scratch;
use crate::store::{AddStore, Added, CheckSignatures};
use crate::stream::{ByteStream, into_blocking, while_feeding};

/// How files are restored into the store: canonical right away.
const RESTORE: RestoreOptions = RestoreOptions { canonical: true, case_hack: CaseHack::Refuse };

/// An object to be added, whose path follows from its content.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// The name in its path.
    pub name: StorePathName,
    /// How its content is hashed.
    pub method: ContentAddressMethod,
    /// With which algorithm.
    pub algorithm: Algorithm,
    /// What it refers to; never itself, as its path is not known yet.
    pub references: BTreeSet<StorePath>,
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// An archive.
    Nar,
    /// The bytes of one regular file.
    File,
}

impl LocalStore {
    /// Adds a path from its archive; see [`AddStore::add_nar`]. Hash or size may be unknown if signatures are not checked;
    /// they are computed then.
    ///
    /// # Errors
    /// See there.
    pub async fn add_nar(&self, info: PathInfo, nar: ByteStream, check: CheckSignatures) -> Result<Added> {
        let (feeder, reader) = into_blocking();
        let store = self.clone();
        let adding = waiting(move || store.add_nar_blocking(info, reader, check));
        while_feeding(feeder, nar, adding).await
    }

    /// Like [`add_nar`](Self::add_nar), for an archive that a thread which may block reads. It is read to its end, where
    /// whatever reads it can still object.
    ///
    /// # Errors
    /// See there.
    pub async fn add_nar_from(
        &self,
        info: PathInfo,
        nar: impl Read + Send + 'static,
        check: CheckSignatures,
    ) -> Result<Added> {
        let store = self.clone();
        waiting(move || store.add_nar_blocking(info, nar, check)).await
    }

    pub(super) fn add_nar_blocking(
        &self,
        info: PathInfo,
        nar: impl Read,
        check: CheckSignatures,
    ) -> Result<Added> {
        let size = info.nar_size;
        self.add_checked(info, check, move |path, name| {
            self.restore_archive((self.directory(), name), path, size, nar)
        })
    }

    /// Adds a path from elsewhere, whose files `make` puts in place, and reads in doing so: what it has found is compared
    /// with what was announced.
    pub(super) fn add_checked(
        &self,
        mut info: PathInfo,
        check: CheckSignatures,
        make: impl FnOnce(&StorePath, &Component) -> Result<NarDigest>,
    ) -> Result<Added> {
        self.begin_adding(&mut info, check)?;
        if self.path_info_blocking(&info.path)?.is_some() {
            return Ok(Added::AlreadyValid);
        }
        self.check_references(&info)?;
        let path = info.path.clone();
        self.install(&path, move |name| {
            let nar = make(&info.path, name)?;
            self.check_arrived((self.directory(), name), nar, info)
        })
    }

    /// Decides whether a path may be added, and keeps it from being collected.
    pub(super) fn begin_adding(&self, info: &mut PathInfo, check: CheckSignatures) -> Result<()> {
        self.refuse_if_read_only()?;
        if check == CheckSignatures::Yes {
            info.ultimate = false;
        }
        self.check_trust(info, check)?;
        self.add_temp_roots_blocking(std::slice::from_ref(&info.path))
    }

    /// Restores the archive of a path as `name` in a directory. It may have `size` bytes, if that isn't 0.
    pub(super) fn restore_archive(
        &self,
        (directory, name): (&Directory, &Component),
        path: &StorePath,
        size: u64,
        nar: impl Read,
    ) -> Result<NarDigest> {
        let mut source = Counted::new(nar, if size == 0 { u64::MAX } else { size });
        let nar = kiln_fs::restore(directory, name, &mut source, RESTORE, &mut ())?;
        source.expect_end(nar.size).map_err(|error| Error::Stream { path: self.print(path), error })?;
        Ok(nar)
    }

    /// Compares what has arrived as `name` in a directory with what was announced. The answer has what was not.
    pub(super) fn check_arrived(
        &self,
        (directory, name): (&Directory, &Component),
        nar: NarDigest,
        mut info: PathInfo,
    ) -> Result<PathInfo> {
        self.check_nar(&mut info, nar)?;
        let shown = self.print(&info.path);
        Content { directory, name, nar, shown: &shown }.check_address(self.store_dir(), &info)?;
        Ok(info)
    }

    /// Compares what arrived with what was announced, and fills in what was not.
    fn check_nar(&self, info: &mut PathInfo, nar: NarDigest) -> Result<()> {
        let mismatch =
            |what, specified, got| Error::Mismatch { what, path: self.print(&info.path), specified, got };
        if info.nar_hash != Sha256::UNKNOWN && info.nar_hash != nar.hash {
            let shown = |hash: Sha256| format!("sha256:{}", hash.nix32());
            return Err(mismatch("hash", shown(info.nar_hash), shown(nar.hash)));
        }
        if info.nar_size != 0 && info.nar_size != nar.size {
            return Err(mismatch("size", info.nar_size.to_string(), nar.size.to_string()));
        }
        info.nar_hash = nar.hash;
        info.nar_size = nar.size;
        Ok(())
    }

    /// Adds an object from a stream; returns what is known about it then. If it was valid already, nothing changes.
    ///
    /// # Errors
    /// The stream breaks off or is no archive; the method does not fit the content; a reference is not valid.
    pub async fn add_stream(
        &self,
        object: NewObject,
        kind: StreamKind,
        stream: ByteStream,
    ) -> Result<Arc<PathInfo>> {
        let (feeder, mut reader) = into_blocking();
        let store = self.clone();
        let shown = object.name.to_string();
        let adding = waiting(move || {
            store.add_object(object, |scratch, name| match kind {
                StreamKind::Nar => {
                    let mut source = Counted::new(reader, u64::MAX);
                    let nar = kiln_fs::restore(scratch.directory(), name, &mut source, RESTORE, &mut ())?;
                    source.expect_end(nar.size).map_err(|error| Error::Stream { path: shown, error })?;
                    Ok(nar)
                }
                StreamKind::File => scratch.write_file(name, &mut reader),
            })
        });
        while_feeding(feeder, stream, adding).await
    }

    /// Adds a text, such as a derivation, at the path that follows from it and its references.
    ///
    /// # Errors
    /// A reference is not valid; a derivation does not parse or its outputs do not follow from it.
    pub async fn add_text(
        &self,
        name: &StorePathName,
        text: Vec<u8>,
        references: BTreeSet<StorePath>,
    ) -> Result<Arc<PathInfo>> {
        let object = NewObject {
            name: name.clone(),
            method: ContentAddressMethod::Text,
            algorithm: Algorithm::Sha256,
            references,
        };
        let store = self.clone();
        waiting(move || {
            let path = store.store_dir().make_text_path(&object.name, &text, object.references.clone())?;
            store.add_temp_roots_blocking(std::slice::from_ref(&path))?;
            if let Some(info) = store.path_info_blocking(&path)? {
                return Ok(info);
            }
            store.add_object(object, |scratch, name| scratch.write_file(name, &mut text.as_slice()))
        })
        .await
    }

    /// Adds a regular file with the contents of one from elsewhere in the file system, whatever its permissions.
    ///
    /// # Errors
    /// The file cannot be read or copied.
    pub async fn add_file(&self, object: NewObject, source: &Path) -> Result<Arc<PathInfo>> {
        let store = self.clone();
        let source = source.to_owned();
        waiting(move || {
            let mut file = File::open(&source).during("open", &source)?;
            store.add_object(object, |scratch, name| scratch.write_file(name, &mut file))
        })
        .await
    }

    /// Adds a copy of a tree from elsewhere in the file system; links in it are copied as links. `filter` says which
    /// entries are left out.
    ///
    /// # Errors
    /// The tree cannot be read or copied.
    pub async fn add_tree(
        &self,
        object: NewObject,
        source: &Path,
        filter: Option<Filter>,
    ) -> Result<Arc<PathInfo>> {
        let store = self.clone();
        let source = source.to_owned();
        waiting(move || {
            store.add_object(object, |scratch, name| {
                copy_filtered(&source, (scratch.directory(), name), filter)?;
                Ok(kiln_fs::hash_tree(scratch.directory(), name, &mut ())?)
            })
        })
        .await
    }

    /// Makes an object in a scratch directory, computes its path, and moves it there.
    fn add_object(
        &self,
        object: NewObject,
        make: impl FnOnce(&Scratch, &Component) -> Result<NarDigest>,
    ) -> Result<Arc<PathInfo>> {
        self.refuse_if_read_only()?;
        self.begin_work()?;
        let scratch = Scratch::create(self)?;
        let made = Component::new("x").map_err(|error| Error::Files(error.into()))?;
        let nar = make(&scratch, &made)?;
        fail_point(FailPoint::ObjectMade);
        let content =
            Content { directory: scratch.directory(), name: &made, nar, shown: object.name.as_str() };
        let hash = content.hash(object.method, object.algorithm)?;
        let address = ContentAddress { method: object.method, hash };
        let references = References { others: object.references, to_self: false };
        let path = self.store_dir().make_content_addressed_path(&object.name, &address, &references)?;
        let mut info = PathInfo::new(path.clone(), nar.hash, nar.size);
        info.references = references.others;
        info.content_address = Some(address);
        self.add_temp_roots_blocking(std::slice::from_ref(&path))?;
        self.install(&path, |name| {
            kiln_fs::rename_new((scratch.directory(), &made), (self.directory(), name))?;
            Ok(info)
        })?;
        self.path_info_blocking(&path)?.ok_or_else(|| self.not_valid(&path))
    }

    /// Puts the files of a path in place and makes it valid: under its lock, after looking once more whether somebody else
    /// has done it, with leftovers removed before and, on failure, after.
    fn install(
        &self,
        path: &StorePath,
        put_in_place: impl FnOnce(&Component) -> Result<PathInfo>,
    ) -> Result<Added> {
        let mut lock = self.lock_paths_blocking(std::slice::from_ref(path), |_| {})?;
        // Whatever comes of it, nobody needs the lock file afterwards.
        lock.delete_on_release(true);
        if self.0.database.reader()?.is_valid(path)? {
            return Ok(Added::AlreadyValid);
        }
        let name = Self::component(path)?;
        kiln_fs::delete_tree(self.directory(), &name)?;
        let installed = put_in_place(&name).and_then(|info| {
            fail_point(FailPoint::ObjectMoved);
            self.optimise_new(path, None)?;
            self.register_blocking(vec![info])
        });
        if installed.is_err() {
            // The first failure is the one to tell; what stays is garbage that the next attempt or a collection removes.
            let _ = kiln_fs::delete_tree(self.directory(), &name);
        }
        installed.map(|()| Added::New)
    }
}

impl AddStore for LocalStore {
    fn add_nar<'a>(
        &'a self,
        info: PathInfo,
        nar: ByteStream,
        check: CheckSignatures,
    ) -> BoxFuture<'a, Result<Added>> {
        Box::pin(LocalStore::add_nar(self, info, nar, check))
    }
}

/// Counts what is read, and stops at a limit: an archive that was announced to be small must not fill the disk.
struct Counted<R> {
    source: R,
    limit: u64,
    count: u64,
}

impl<R: Read> Counted<R> {
    fn new(source: R, limit: u64) -> Self {
        Self { source, limit, count: 0 }
    }

    /// Fails if there was or is anything after the `size` bytes of the archive.
    fn expect_end(mut self, size: u64) -> io::Result<()> {
        if self.count > size || self.source.read(&mut [0])? > 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there is more after the end of the archive",
            ));
        }
        Ok(())
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.limit - self.count).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let length = self.source.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        self.count = self.count.saturating_add(length as u64);
        Ok(length)
    }
}
