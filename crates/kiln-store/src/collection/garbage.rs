//! What a collection would delete, without doing it.

use std::ffi::OsString;

use kiln_events::EventSender;
use kiln_store_path::StorePath;

use super::entries::leftovers;
use super::liveness::Retention;
use super::realised::load_graph;
use crate::cancel::cancellable;
use crate::error::Result;
use crate::local::LocalStore;

/// A store's paths, divided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Valid paths that are kept.
    pub alive: Vec<StorePath>,
    /// Paths that are not, and what is called like a path without being valid.
    pub dead: Vec<StorePath>,
    /// Names of other things in the store directory that are leftovers, unless somebody holds a lock on them.
    pub leftovers: Vec<OsString>,
    /// What the archives of the dead paths would take, in bytes. Files that share their contents with others free less.
    pub nar_size: u64,
}

impl LocalStore {
    /// Tells what is garbage at the moment. Takes no lock, and changes nothing.
    ///
    /// # Errors
    /// The roots or the database cannot be read.
    pub async fn find_garbage(&self, retention: Retention, events: EventSender) -> Result<Garbage> {
        let store = self.clone();
        cancellable(move |cancel| {
            let found = store.roots_blocking()?;
            found.warnings.into_iter().for_each(|warning| events.warn(warning));
            let graph = load_graph(&store, retention, &events)?;
            cancel.check()?;
            let mut alive = graph.empty_set();
            let roots = found.roots.iter().filter_map(|root| graph.node(&root.path));
            retention.mark(&graph, roots, &mut alive);
            let mut garbage = Garbage::default();
            for node in graph.nodes() {
                let Some(path) = graph.path(node) else { continue };
                if alive.contains(node) {
                    garbage.alive.push(path.clone());
                } else {
                    garbage.dead.push(path.clone());
                    garbage.nar_size = garbage.nar_size.saturating_add(graph.nar_size(node));
                }
            }
            let temporary = found.roots.iter().filter(|root| root.holder.is_temporary());
            let spared: std::collections::HashSet<&str> = temporary.map(|root| root.path.digest()).collect();
            for entry in leftovers(store.directory(), &graph)? {
                match entry.path {
                    Some(path) if spared.contains(path.digest()) => {}
                    Some(path) => garbage.dead.push(path),
                    None => garbage.leftovers.push(entry.name.as_path().as_os_str().to_owned()),
                }
            }
            Ok(garbage)
        })
        .await
    }
}
