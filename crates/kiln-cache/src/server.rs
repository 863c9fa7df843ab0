//! A binary cache at a server, as it is written to: by `PUT`, as Nix does it.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use kiln_http::{Client, Parts, Patience, Upload};
use kiln_narinfo::CacheInfo;
use kiln_store::waiting;
use kiln_store_path::StoreDir;
use kiln_substitute::{CacheServer, Network};
use tokio::sync::{Semaphore, mpsc};
use url::Url;

use crate::directory::{CACHE_INFO, LARGEST_CACHE_INFO};
use crate::error::Result;
use crate::options::PartSizes;
use crate::place::FileKind;
use crate::spool::Spool;

/// Bytes of a file that are read at once, and how many such pieces wait to be sent.
const CHUNK: usize = 64 << 10;
const QUEUED_CHUNKS: usize = 8;

/// A cache at a server.
pub(crate) struct Server {
    server: CacheServer,
    client: Client,
    patience: Patience,
    slots: Semaphore,
    /// Which files are sent in parts, where the server takes them.
    parts: Option<PartSizes>,
}

impl Server {
    /// Asks a server what it is, and makes a cache of it if it is nothing yet.
    pub(crate) async fn open(
        server: CacheServer,
        store_dir: &StoreDir,
        network: &Arc<Network>,
        parts: Option<PartSizes>,
    ) -> Result<Self> {
        let server = Self {
            client: network.client_for(&server).await?,
            server,
            patience: network.patience(),
            slots: Semaphore::new(network.connections()),
            parts,
        };
        let limit = usize::try_from(LARGEST_CACHE_INFO).unwrap_or(usize::MAX);
        let download =
            server.client.download(server.url(CACHE_INFO).as_str())?.with_patience(server.patience);
        let info = match download.read(limit).await {
            Ok(file) => CacheInfo::parse(server.name(), &file.bytes)?,
            Err(error) if matches!(error.status(), Some(403 | 404 | 410)) => {
                let info = CacheInfo { store_dir: Some(store_dir.clone()), ..CacheInfo::default() };
                server.put(info.to_text().into_bytes(), CACHE_INFO, FileKind::CacheInfo).await?;
                info
            }
            Err(error) => return Err(error.into()),
        };
        info.check_store_dir(server.name(), store_dir)?;
        Ok(server)
    }

    pub(crate) fn name(&self) -> &str {
        self.server.name()
    }

    pub(crate) async fn exists(&self, name: &str) -> Result<bool> {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await.ok();
        Ok(self.client.exists(&self.url(name), self.patience).await?)
    }

    pub(crate) async fn put(&self, contents: Vec<u8>, name: &str, kind: FileKind) -> Result<()> {
        let _slot = self.slots.acquire().await.ok();
        let upload = Upload::Bytes(contents.into());
        Ok(self.client.put(&self.url(name), kind.media_type(), upload, self.patience).await?)
    }

    pub(crate) async fn put_file(&self, spool: Spool, length: u64, name: &str, kind: FileKind) -> Result<()> {
        let _slot = self.slots.acquire().await.ok();
        let (spool, url) = (Arc::new(spool), self.url(name));
        if let Some(PartSizes { threshold, part }) = self.parts
            && length > threshold
            && self.client.takes_parts(&url)
        {
            let open = move |range| read(&spool, range);
            let parts = Parts { length, part, open: &open };
            return Ok(self.client.put_in_parts(&url, kind.media_type(), parts, self.patience).await?);
        }
        let open = move || read(&spool, 0..length);
        let upload = Upload::Stream { length, open: &open };
        Ok(self.client.put(&url, kind.media_type(), upload, self.patience).await?)
    }

    /// Where a file is. Names of derivations may have what means something else in URLs.
    fn url(&self, name: &str) -> Url {
        let mut url = self.server.base().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(name.split('/'));
        }
        url
    }
}

/// Reads a part of a file, on a thread that may wait.
fn read(spool: &Arc<Spool>, range: Range<u64>) -> mpsc::Receiver<std::io::Result<Bytes>> {
    let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let spool = Arc::clone(spool);
    // It ends by itself when nobody takes the chunks any more.
    tokio::spawn(waiting(move || {
        let mut offset = range.start;
        loop {
            let left = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(CHUNK);
            let mut chunk = vec![0; CHUNK.min(left)];
            let piece = match spool.file().read_at(&mut chunk, offset) {
                Ok(0) => return,
                Ok(length) => {
                    chunk.truncate(length);
                    offset += length as u64;
                    Ok(chunk.into())
                }
                Err(error) => Err(error),
            };
            let is_last = piece.is_err();
            if sender.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    }));
    chunks
}
