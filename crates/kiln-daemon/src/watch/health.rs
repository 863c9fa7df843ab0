//! Whether the daemon does what it is there for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::Watch;
use crate::served_store::ServedStore;

/// How long the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl Watch {
    /// What is wrong, a line for each; nothing if all is well.
    pub(super) async fn troubles(&self, store: &ServedStore) -> Vec<String> {
        let mut troubles = Vec::new();
        let asked = async { store.engine().await?.store().ping().await.map_err(crate::Error::Store) };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => troubles.push(format!("the store does not answer: {error}")),
            Err(_) => troubles
                .push(format!("the store's database has not answered within {} s", PATIENCE.as_secs())),
        }
        if self.is_replaced.load(Ordering::Relaxed) {
            troubles.push(
                "another program's socket is in the place of the daemon's, so that no client reaches it"
                    .to_owned(),
            );
        }
        troubles
    }
}
