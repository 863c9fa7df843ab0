//! Moving outputs to their places, and registering them together.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_fs::{Component, FailPoint, delete_tree, fail_point, rename_new, replace};
use kiln_narinfo::PathInfo;
use kiln_store::{LocalStore, blocking};
use kiln_store_path::StorePath;

use super::collect::Collected;
use crate::core::Core;
use crate::error::Failure;
use crate::leftovers::delete_leftovers_blocking;

/// Outputs that are to become valid, and their trees, in the same order.
pub(super) struct NewOutputs {
    pub(super) infos: Vec<PathInfo>,
    pub(super) trees: Vec<Collected>,
    /// What is valid is replaced.
    pub(super) replaces: bool,
}

/// Moves the outputs to their places and registers them together. If that fails, nothing of them stays that was not there
/// before.
pub(super) async fn publish(core: Arc<Core>, new: NewOutputs) -> Result<(), Failure> {
    // Nobody could know these paths before, so nobody has locked them.
    let computed: Vec<StorePath> =
        new.trees.iter().filter(|tree| tree.address.is_some()).map(|tree| tree.path.clone()).collect();
    let mut locks = None;
    if !computed.is_empty() {
        core.store.add_temp_roots(computed.clone()).await?;
        locks = Some(core.store.lock_paths(computed, |_| {}).await?);
    }
    let store = core.store.clone();
    blocking(move || register_new(&store, new)).await?;
    if let Some(locks) = &mut locks {
        locks.delete_on_release(true);
    }
    Ok(())
}

/// All of it on one thread, since going from one to another costs as much as the parts.
fn register_new(store: &LocalStore, mut new: NewOutputs) -> Result<(), Failure> {
    let paths: Vec<StorePath> = new.infos.iter().map(|info| info.path.clone()).collect();
    let valid = store.valid_among_blocking(&paths)?;
    if !new.replaces {
        // The same content was made before: what there is of it is as good.
        new.infos.retain(|info| !valid.contains(&info.path));
        new.trees.retain(|tree| !valid.contains(&tree.path));
    }
    if new.infos.is_empty() {
        return Ok(());
    }
    let published = move_and_register(store, new, &valid);
    if published.is_err() {
        delete_leftovers_blocking(store, paths.iter().filter(|path| !valid.contains(*path)))?;
    }
    published
}

fn move_and_register(
    store: &LocalStore,
    new: NewOutputs,
    valid: &BTreeSet<StorePath>,
) -> Result<(), Failure> {
    for output in &new.trees {
        if valid.contains(&output.path) {
            replace_in_store(store, output, &output.path)?;
        } else {
            if output.address.is_some() {
                // A crash may have left something there; of a path that is known before, it is removed before the build.
                delete_tree(store.directory(), &LocalStore::component(&output.path)?)?;
            }
            move_into_store(store, output, &output.path)?;
            store.optimise_new(&output.path, output.files.as_deref())?;
        }
        fail_point(FailPoint::OutputMoved);
    }
    store.register_blocking(new.infos).map_err(|error| match error {
        kiln_store::Error::Database(cycle @ kiln_database::Error::Cycle { .. }) => {
            Failure::new(kiln_events::BuildStatus::OutputRejected, cycle.to_string())
        }
        error => error.into(),
    })
}

/// Moves a tree from the directory that it was made in to its place in the store, if it isn't there already.
pub(super) fn move_into_store(
    store: &LocalStore,
    output: &Collected,
    path: &StorePath,
) -> Result<(), Failure> {
    let (to, name) = (store.directory(), Component::new(path.base_name())?);
    if output.directory.path() == to.path() && output.tree == name {
        return Ok(());
    }
    Ok(rename_new((&output.directory, &output.tree), (to, &name))?)
}

/// Puts a tree in the place of a valid path's, which is not what it was.
pub(super) fn replace_in_store(
    store: &LocalStore,
    output: &Collected,
    path: &StorePath,
) -> Result<(), Failure> {
    store.sync_if_wanted(&output.directory, &output.tree)?;
    let place = LocalStore::component(path)?;
    Ok(replace((&output.directory, &output.tree), (store.directory(), &place))?)
}
