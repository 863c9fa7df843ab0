//! The end of a process that has given up some of its threads. The only test of its process, which it ends for all stores.

#![allow(clippy::unwrap_used)]

#[path = "support/scratch_store.rs"]
mod scratch_store;

use std::fs;

use scratch_store::{ScratchStore, store_path};

#[tokio::test]
async fn whoever_still_holds_a_store_leaves_nothing_in_it() {
    let scratch = ScratchStore::new().await;
    let temproots = scratch.store.config().locations.state_dir.join("temproots");
    scratch.store.add_temp_roots(vec![store_path("00000000000000000000000000000001-a")]).await.unwrap();
    assert_eq!(fs::read_dir(&temproots).unwrap().count(), 1);
    let held = scratch.store.clone();
    kiln_store::leave_stores();
    assert_eq!(fs::read_dir(&temproots).unwrap().count(), 0);
    drop(held);
}
