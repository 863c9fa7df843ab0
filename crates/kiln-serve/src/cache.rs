//! The small things of a binary cache: what it is, what it knows of paths, logs, realisations; and how the server is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kiln_hash::Hash;
use kiln_metrics::Exposition;
use kiln_nar::{DigestText, ListingWriter};
use kiln_narinfo::{CacheInfo, Compression, NarInfo, RealisationId};
use kiln_store::{LocalStore, blocking, written_by};
use kiln_store_path::StorePath;
use tokio::time::timeout;

use crate::answer::{Answer, PLAIN, Refusal};
use crate::body::Content;
use crate::site::{ArchiveCoding, Asked, Site};

/// How long the database may take for the simplest question.
const HEALTHY: Duration = Duration::from_secs(5);

impl Site {
    pub(crate) fn cache_info(&self) -> Answer {
        let info = CacheInfo {
            store_dir: Some(self.store.store_dir().clone()),
            want_mass_query: Some(true),
            priority: Some(self.config.priority),
        };
        Answer::text("text/x-nix-cache-info", info.to_text())
    }

    pub(crate) async fn narinfo(self: &Site, digest: &DigestText) -> Result<Answer, Refusal> {
        let mut info = (*self.path_info(digest).await?).clone();
        let (store_dir, keys) = (self.store.store_dir().clone(), Arc::clone(&self.config.keys));
        let coding = self.config.coding;
        let text = move || {
            for key in keys.iter() {
                // A path without a size, which could not be signed, is not offered at all.
                let _ = info.sign(&store_dir, key);
            }
            narinfo(info, coding).to_text(&store_dir)
        };
        // Another thread is worth it for signatures alone.
        let text = if self.config.keys.is_empty() { text() } else { blocking(text).await };
        Ok(Answer::text("text/x-nix-narinfo", text))
    }

    pub(crate) async fn listing(&self, digest: &DigestText, asked: &Asked<'_>) -> Result<Answer, Refusal> {
        let info = self.path_info(digest).await?;
        let media_type = "application/json";
        if asked.is_head {
            return Ok(Answer::new(media_type, Content::Nothing(None)));
        }
        let held = self.hold(&info.path).await?;
        let (store, path) = (self.store.clone(), info.path.clone());
        let source = written_by(move |out| write_listing(&store, &path, out));
        match self.stream(source, None, held, asked).await {
            // Names that are no text have no place in JSON.
            Err(Refusal::Files(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Refusal::NotFound)
            }
            content => Ok(Answer::new(media_type, content?)),
        }
    }

    pub(crate) async fn log(&self, derivation: &StorePath, asked: &Asked<'_>) -> Result<Answer, Refusal> {
        let place = self.place().await?;
        let log = self.store.read_log(derivation).await?.ok_or(Refusal::NotFound)?;
        let content = match asked.is_head {
            true => Content::Nothing(None),
            false => self.stream(log, None, place, asked).await?,
        };
        Ok(Answer::new(PLAIN, content))
    }

    pub(crate) async fn realisation(&self, id: &RealisationId) -> Result<Answer, Refusal> {
        let mut realisation = self.store.realisation(id).await?.ok_or(Refusal::NotFound)?;
        let keys = Arc::clone(&self.config.keys);
        let text = blocking(move || {
            for key in keys.iter() {
                realisation.sign(key);
            }
            realisation.to_json()
        });
        Ok(Answer::text("application/json", text.await))
    }

    pub(crate) async fn health(&self) -> Result<Answer, Refusal> {
        match timeout(HEALTHY, self.store.ping()).await {
            Ok(answer) => answer.map(|()| Answer::text(PLAIN, "ok\n")).map_err(Refusal::Store),
            Err(_) => Err(Refusal::Busy),
        }
    }

    pub(crate) fn counters(&self) -> Answer {
        Answer::text(Exposition::MEDIA_TYPE, self.metrics.text())
    }
}

fn narinfo(info: kiln_narinfo::PathInfo, coding: ArchiveCoding) -> NarInfo {
    let url = format!("nar/{}-{}.nar", info.path.digest(), info.nar_hash.nix32());
    match coding {
        // Nobody knows what comes of compressing it before it has been done.
        ArchiveCoding::Zstd => NarInfo {
            url: format!("{url}.zst"),
            compression: Compression::Zstd,
            file_hash: None,
            file_size: None,
            info,
        },
        ArchiveCoding::Plain => NarInfo {
            url,
            compression: Compression::None,
            file_hash: Some(Hash::from(info.nar_hash)),
            file_size: Some(info.nar_size),
            info,
        },
    }
}

fn write_listing(store: &LocalStore, path: &StorePath, out: &mut dyn io::Write) -> io::Result<()> {
    let name = LocalStore::component(path).map_err(io::Error::other)?;
    let mut listing = ListingWriter::new();
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let told = kiln_fs::outline(store.directory(), &name, &mut |event| {
        listing.event(event).map_err(invalid)?;
        out.write_all(listing.take().as_bytes())
    });
    match told {
        // As it was said above, so that its kind stays.
        Err(kiln_fs::Error::Sink { source, .. }) => return Err(source),
        told => told.map_err(io::Error::other)?,
    }
    out.write_all(listing.finish().map_err(invalid)?.as_bytes())
}
