//! Giving out paths in the form of `nix-store --export`.

use kiln_nar::export::{ItemInfo, put_item_end};
use kiln_store_path::StorePath;
use tokio::io::AsyncReadExt;

use super::failure::Failure;
use super::{CHUNK, Session};
use crate::limits::QUEUED;

impl Session {
    /// Sends a path during the log phase: its archive, and what is known of it, without what stands around several.
    pub(super) async fn export_path(&self, path: &StorePath) -> Result<(), Failure> {
        let info = self.valid_path_info(path).await?;
        let mut nar = self.store().read_nar(path).await?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if nar.read_buf(&mut chunk).await? == 0 {
                break;
            }
            let mut waiting = self.outbox.write(chunk);
            while waiting > QUEUED {
                self.outbox.drained().await;
                waiting = self.outbox.len();
            }
        }
        let bytes = |path: &StorePath| self.store().print(path).into_bytes();
        let item = ItemInfo {
            path: bytes(path),
            references: info.references.iter().map(bytes).collect(),
            deriver: info.deriver.as_ref().map(bytes),
        };
        let mut end = Vec::new();
        put_item_end(&mut end, &item);
        self.outbox.write(end);
        Ok(())
    }
}
