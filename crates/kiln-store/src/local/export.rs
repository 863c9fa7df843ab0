//! Giving out paths in the form of `nix-store --export`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;

use kiln_hash::{Sha256, Sha256Hasher};
use kiln_nar::export::{ItemInfo, put_end, put_item_end, put_item_start};
use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

use crate::blocking::waiting;
use crate::error::Result;
use crate::local::LocalStore;
use crate::stream::{ByteStream, from_blocking};

impl LocalStore {
    /// The export stream of some paths, referenced ones first, made while it is read.
    ///
    /// # Errors
    /// One of the paths is not valid. If files cannot be read, or are not what they were when their path became valid, the
    /// stream says so and does not end well.
    pub async fn export(&self, paths: BTreeSet<StorePath>) -> Result<ByteStream> {
        let mut infos = Vec::with_capacity(paths.len());
        for path in self.references_first(paths).await? {
            infos.push(self.valid_path_info(&path).await?);
        }
        let (mut writer, reader) = from_blocking();
        let store = self.clone();
        // The task ends by itself when the reader goes away.
        tokio::spawn(waiting(move || {
            let written = store.write_export(&infos, &mut writer);
            writer.finish(written);
        }));
        Ok(Box::pin(reader))
    }

    fn write_export(&self, infos: &[Arc<PathInfo>], out: &mut impl Write) -> io::Result<()> {
        for info in infos {
            let mut frame = Vec::new();
            put_item_start(&mut frame);
            out.write_all(&frame)?;
            let mut hashing = Hashing { out, hasher: Sha256Hasher::new() };
            let name = Self::component(&info.path).map_err(io::Error::other)?;
            kiln_fs::dump(self.directory(), &name, &mut hashing).map_err(io::Error::other)?;
            let found = hashing.hasher.finish();
            if info.nar_hash != Sha256::UNKNOWN && info.nar_hash != found {
                return Err(io::Error::other(format!(
                    "hash of path '{}' has changed from 'sha256:{}' to 'sha256:{}'!",
                    self.print(&info.path),
                    info.nar_hash.nix32(),
                    found.nix32()
                )));
            }
            frame.clear();
            put_item_end(&mut frame, &self.item_info(info));
            out.write_all(&frame)?;
        }
        let mut end = Vec::new();
        put_end(&mut end);
        out.write_all(&end)
    }

    fn item_info(&self, info: &PathInfo) -> ItemInfo {
        let bytes = |path: &StorePath| self.print(path).into_bytes();
        ItemInfo {
            path: bytes(&info.path),
            references: info.references.iter().map(bytes).collect(),
            deriver: info.deriver.as_ref().map(bytes),
        }
    }
}

/// Hashes what it passes on.
struct Hashing<'a, W> {
    out: &'a mut W,
    hasher: Sha256Hasher,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
