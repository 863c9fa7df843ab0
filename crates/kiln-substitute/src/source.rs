//! What every substituter can do.

use std::io::Read;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use kiln_events::EventSender;
use kiln_hash::Hash;
use kiln_narinfo::{Compression, NarInfo, PathInfo, Realisation, RealisationId};
use kiln_store_path::StorePath;

use crate::error::Result;
use crate::health::Health;
use crate::http_cache::Turn;

/// What a substituter says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Its place among the others, lowest first.
    pub priority: i64,
    /// Whether it may be asked about many paths at once.
    pub want_mass_query: bool,
    /// What its clock said when it was asked, if it has one and was asked right now.
    pub date: Option<SystemTime>,
}

/// A path that a substituter has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What it says about the path; nothing of that is certain yet.
    pub info: Arc<PathInfo>,
    /// The file with the path's archive; none if the archive itself comes.
    pub file: Option<NarFile>,
}

/// A file with an archive in a binary cache, as its narinfo has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarFile {
    /// Where it is: absolute, or relative to the cache.
    pub url: String,
    /// How it is compressed.
    pub compression: Compression,
    /// Hash of the compressed file.
    pub hash: Option<Hash>,
    /// Bytes of the compressed file.
    pub size: Option<u64>,
}

impl From<NarInfo> for Offer {
    fn from(narinfo: NarInfo) -> Self {
        Self {
            info: Arc::new(narinfo.info),
            file: Some(NarFile {
                url: narinfo.url,
                compression: narinfo.compression,
                hash: narinfo.file_hash,
                size: narinfo.file_size,
            }),
        }
    }
}

impl Offer {
    /// Bytes that have to be transferred, as far as the substituter says so; 0 otherwise.
    #[must_use]
    pub fn download_size(&self) -> u64 {
        self.file.as_ref().map_or(self.info.nar_size, |file| file.size.unwrap_or(0))
    }
}

/// The contents of a path on their way: the file with its archive, or the archive itself.
pub struct Contents<'a> {
    /// Read on a thread that may block; ends with an error if the file does not come whole.
    pub reader: Box<dyn Read + Send>,
    /// What brings the contents to the reader; it has to be polled as long as somebody reads.
    pub feeding: BoxFuture<'a, Result<()>>,
}

/// A place that store paths can be had from. All substituters of one engine are for its store directory.
pub trait Substituter: Send + Sync {
    /// Its URL without parameters and passwords, as messages have it.
    fn name(&self) -> &str;

    /// Whether its paths need no signatures.
    fn is_trusted(&self) -> bool;

    /// How it fares; nothing of what can't be away.
    fn health(&self) -> Option<&Arc<Health>> {
        None
    }

    /// The URL of the file that comes over the network if the contents of a path that it has offered are wanted. It may be
    /// what the substituter has made up, without a password.
    fn file_url(&self, _offer: &Offer) -> Option<String> {
        None
    }

    /// What it says about itself, remembered once it has said it.
    ///
    /// # Errors
    /// It can't be used: it is not there, is none, or is for another store directory.
    fn properties(&self) -> BoxFuture<'_, Result<Properties>>;

    /// What it says about a path; nothing if it doesn't have it. Called after [`properties`](Self::properties).
    ///
    /// # Errors
    /// It can't be asked, or its answer makes no sense.
    fn path_info<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Option<Offer>>>;

    /// As which path an output was made whose path follows from its content; nothing if it doesn't know. Called after
    /// [`properties`](Self::properties).
    ///
    /// # Errors
    /// It can't be asked, or its answer makes no sense.
    fn realisation<'a>(&'a self, _id: &'a RealisationId) -> BoxFuture<'a, Result<Option<Realisation>>> {
        ready(Ok(None)).boxed()
    }

    /// Leave to ask for the contents of a path that it has offered, where leave is needed. Whoever takes that must not hold
    /// anything that others need who have it.
    fn turn<'a>(&'a self, _offer: &'a Offer) -> BoxFuture<'a, Option<Turn<'a>>> {
        ready(None).boxed()
    }

    /// The contents of a path that it has offered. `turn` is what [`turn`](Self::turn) gave, if it was asked for one; `events`
    /// gets warnings while they come.
    ///
    /// # Errors
    /// They are not to be had.
    fn contents<'a>(
        &'a self,
        offer: &'a Offer,
        turn: Option<Turn<'a>>,
        events: &'a EventSender,
    ) -> BoxFuture<'a, Result<Contents<'a>>>;
}
