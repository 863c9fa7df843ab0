//! Fetching a path: download, decompression, hashing and restoring as one pipeline, each stage as fast as the next one
//! takes it.
//!
//! The network is the event loop's; decompressing, hashing and writing are those of threads that may block. A large file
//! is read and hashed on one thread and decompressed on another, so that these and the work of the store go side by side; for a
//! small one, or one that is not compressed, another thread costs more than it brings.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join, ready};
use kiln_events::{Activity, ActivityGuard, ActivityId, EventSender, Verbosity};
use kiln_hash::Hash;
use kiln_narinfo::{Compression, PathInfo};
use kiln_store::{Added, CheckSignatures, Helper, LocalStore};

use crate::error::{Error, FetchFault, Result};
use crate::http_cache::Turn;
use crate::pipe::{PipeWriter, pipe};
use crate::search::Candidate;
use crate::source::{Contents, NarFile, Offer};
use crate::unpack::{Progress, checked, counted, unpacked};

/// Archives of so many bytes and less are decompressed on the thread that restores them.
const SMALL: u64 = 256 << 10;

/// Compressed files of more than so many bytes are read and hashed on a thread of their own, beside that which decompresses.
const LARGE_FILE: u64 = 4 << 20;

/// Bytes that are decompressed at once.
const CHUNK: usize = 64 << 10;

/// How often progress is told.
const TOLD: Duration = Duration::from_millis(250);

/// What is done about a path that is valid already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Existing {
    /// Nothing: it is as good.
    Stays,
    /// Its contents, which are not what they were, are replaced.
    IsReplaced,
}

/// A path that was fetched and registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Whether it was needed at all.
    pub added: Added,
    /// What is known about it now.
    pub info: Arc<PathInfo>,
    /// Bytes that were transferred.
    pub downloaded: u64,
}

/// Why an archive did not get to where it should go.
#[derive(Debug)]
pub enum TransferError<E> {
    /// It is not to be had, or is not what was offered.
    Source(Error),
    /// Whoever took it has failed.
    Taker(E),
}

/// Fetches what was offered into a store. `check` says whether the store decides once more whether it may be believed.
///
/// # Errors
/// It is not to be had, or is not what was offered; then nothing is left of it.
pub(crate) async fn fetch(
    candidate: &Candidate,
    store: &LocalStore,
    (check, existing): (CheckSignatures, Existing),
    admission: (Option<Turn<'_>>, impl Future),
    (events, parent): (&EventSender, ActivityId),
) -> Result<Fetched> {
    let info = Arc::clone(candidate.info());
    let stated = PathInfo { ultimate: false, registration_time: 0, ..(*info).clone() };
    let path = store.print(&info.path);
    let take = |reader| match existing {
        Existing::Stays => store.add_nar_from(stated, reader, check).left_future(),
        Existing::IsReplaced => store.replace_nar_from(stated, reader, check).right_future(),
    };
    match transfer(candidate, (&path, "local"), admission, (events, parent), take).await {
        Ok((added, downloaded)) => Ok(Fetched { added, info, downloaded }),
        Err(TransferError::Source(error)) => Err(error),
        Err(TransferError::Taker(error)) => Err(Error::fetch(candidate.substituter(), path, error)),
    }
}

/// Hands the archive of what was offered to `take`, decompressed and checked against its narinfo on the way; returns what
/// came of it, and the bytes that were transferred. `path` is the full path and `destination` the place that gets it, both
/// for those who watch; for `turn` and `slot` see [`Substituters::fetch`](crate::Substituters::fetch).
///
/// The archive itself is not compared with what is said of its contents: that is up to whoever takes it.
pub(crate) async fn transfer<T, E, F>(
    candidate: &Candidate,
    (path, destination): (&str, &str),
    (turn, slot): (Option<Turn<'_>>, impl Future),
    (events, parent): (&EventSender, ActivityId),
    take: impl FnOnce(Box<dyn Read + Send>) -> F,
) -> Result<(T, u64), TransferError<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let offer = candidate.offer();
    let source = candidate.substituter();
    let fault = |fault: FetchFault| TransferError::Source(Error::fetch(source, path.to_owned(), fault));
    let activity =
        Activity::CopyPath { path: path.into(), source: source.into(), destination: destination.into() };
    let text = match (source, destination) {
        (_, "local") => format!("copying path '{path}' from '{source}'"),
        ("local", _) => format!("copying path '{path}' to '{destination}'"),
        _ => format!("copying path '{path}' from '{source}' to '{destination}'"),
    };
    let activity = events.start_with_text(parent, Verbosity::Info, activity, text);

    let progress = Progress::default();
    // The threads stop when this is dropped, with the future.
    let wanted = Arc::new(());
    let contents = candidate.source.substituter.contents(offer, turn, events).await;
    let Contents { reader, feeding } = contents.map_err(TransferError::Source)?;
    let _slot = slot.await;
    let nar_size = offer.info.nar_size;
    let (reader, reading) = match &offer.file {
        Some(file) => {
            let file = without_second_hash(file, &offer.info);
            let checked = checked(&file, nar_size, reader, &progress, Arc::downgrade(&wanted));
            let is_compressed = file.compression != Compression::None;
            let is_worth_a_thread = |size, least| is_compressed && size > least;
            let (checked, checking) =
                on_own_thread_if(is_worth_a_thread(file.size.unwrap_or(nar_size), LARGE_FILE), checked);
            let unpacked = unpacked(&file.compression, nar_size, checked, &progress).map_err(fault)?;
            let (unpacked, unpacking) = on_own_thread_if(is_worth_a_thread(nar_size, SMALL), unpacked);
            (unpacked, join(checking, unpacking).map(drop).boxed())
        }
        None => (counted(reader, &progress), ready(()).boxed()),
    };
    let file_url = candidate.source.substituter.file_url(offer);
    let driven = drive(take(reader), feeding, reading);
    let (taken, fed) = tell_progress(&activity, offer, file_url, &progress, driven).await;
    drop(wanted);
    match taken {
        // Whoever had it first read less than there is, or nothing at all.
        Ok(taken) => Ok((taken, progress.file.load(Ordering::Relaxed))),
        Err(error) => {
            fed.unwrap_or(Ok(())).map_err(TransferError::Source)?;
            Err(progress.fault.take().map_or(TransferError::Taker(error), fault))
        }
    }
}

/// A file that is the archive itself has the hash of the archive, which whoever takes that compares: nobody has to do it twice.
fn without_second_hash(file: &NarFile, info: &PathInfo) -> NarFile {
    let is_archive = file.compression == Compression::None && file.hash == Some(Hash::from(info.nar_hash));
    NarFile { hash: file.hash.filter(|_| !is_archive), ..file.clone() }
}

/// Polls all until the first one is done, which then has no more use for the others.
async fn drive<A>(
    adding: impl Future<Output = A>,
    feeding: BoxFuture<'_, Result<()>>,
    reading: BoxFuture<'static, ()>,
) -> (A, Option<Result<()>>) {
    let (mut fed, mut has_read) = (None, false);
    tokio::pin!(adding, feeding, reading);
    loop {
        tokio::select! {
            biased;
            // What feeds has failed before whoever reads can notice.
            result = &mut feeding, if fed.is_none() => fed = Some(result),
            added = &mut adding => return (added, fed),
            () = &mut reading, if !has_read => has_read = true,
        }
    }
}

/// Moves reading to another thread, from where it comes through a pipe, if that is worth it and there is one.
fn on_own_thread_if(
    is_worth_it: bool,
    mut reader: Box<dyn Read + Send>,
) -> (Box<dyn Read + Send>, BoxFuture<'static, ()>) {
    let Some(helper) = is_worth_it.then(Helper::find).flatten() else {
        return (reader, ready(()).boxed());
    };
    let (writer, piped) = pipe();
    // If it fails, the pipe ends early, and what is to be said is in the slot for faults.
    let reading = helper.work(move || drop(copy(&mut *reader, writer)));
    (Box::new(piped), reading.boxed())
}

fn copy(reader: &mut dyn Read, mut writer: PipeWriter) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match reader.read(&mut chunk)? {
            0 => return writer.finish_blocking(),
            length => writer.write_all(chunk.get(..length).unwrap_or_default())?,
        }
    }
}

/// Tells how far a fetch is until it ends, and how far the file that comes over the network, if there is one.
async fn tell_progress<T>(
    activity: &ActivityGuard,
    offer: &Offer,
    file_url: Option<String>,
    progress: &Progress,
    fetching: impl Future<Output = T>,
) -> T {
    let transfer = file_url.map(|url| {
        let url = kiln_events::quoted(url.as_bytes());
        let size = offer.file.as_ref().and_then(|file| file.size);
        (activity.start(Verbosity::Talkative, Activity::FileTransfer { url: url.into() }), size)
    });
    let tell = || {
        activity.progress(progress.nar.load(Ordering::Relaxed), offer.info.nar_size, 0, 0);
        if let Some((transfer, size)) = &transfer {
            transfer.progress(progress.file.load(Ordering::Relaxed), size.unwrap_or(0), 0, 0);
        }
    };
    let mut ticks = tokio::time::interval(TOLD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(fetching);
    loop {
        tokio::select! {
            biased;
            result = &mut fetching => {
                tell();
                return result;
            }
            _ = ticks.tick() => tell(),
        }
    }
}
