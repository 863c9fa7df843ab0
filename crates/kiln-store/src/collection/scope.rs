//! What a collection is about: the whole store, or some paths; and what of it is alive.

use std::collections::{BTreeSet, HashMap, HashSet};

use kiln_database::{Graph, Node, NodeSet};
use kiln_events::EventSender;
use kiln_fs::Stale;
use kiln_store_path::StorePath;

use super::announced::Announced;
use super::liveness::Retention;
use super::realised::load_graph;
use super::why::reasons;
use crate::error::{Error, Result};
use crate::local::LocalStore;
use crate::roots::Root;

/// What is to be deleted.
pub(super) enum Scope {
    /// All garbage.
    Everything,
    /// Only these paths, all of them.
    Paths {
        listed: BTreeSet<StorePath>,
        /// Roots don't count; referrers do.
        ignore_liveness: bool,
    },
}

/// The graph, what of it is alive, and the roots. The collector's lock must be held.
pub(super) fn find_alive(
    store: &LocalStore,
    scope: &Scope,
    retention: Retention,
    announced: &Announced,
    events: &EventSender,
) -> Result<(Graph, NodeSet, Vec<Root>)> {
    // Temporary roots first: see the steps.
    let mut found = store.temporary_roots(Stale::Remove)?;
    found.roots.iter().for_each(|root| announced.announce(&root.path));
    if !matches!(scope, Scope::Paths { ignore_liveness: true, .. }) {
        let others = store.lasting_roots(Stale::Remove)?;
        found.roots.extend(others.roots);
        found.warnings.extend(others.warnings);
    }
    found.warnings.into_iter().for_each(|warning| events.warn(warning));
    let graph = load_graph(store, retention, events)?;
    let mut alive = graph.empty_set();
    retention.mark(&graph, found.roots.iter().filter_map(|root| graph.node(&root.path)), &mut alive);
    if let Scope::Paths { listed, .. } = scope {
        let is_listed = |node: Node| graph.path(node).is_some_and(|path| listed.contains(path));
        retention.mark(&graph, graph.nodes().filter(|node| !is_listed(*node)), &mut alive);
    }
    Ok((graph, alive, found.roots))
}

/// Fails if a path that is to be deleted is alive.
pub(super) fn refuse_alive(
    store: &LocalStore,
    scope: &Scope,
    retention: Retention,
    (graph, alive, roots): (&Graph, &NodeSet, &[Root]),
) -> Result<()> {
    let Scope::Paths { listed, .. } = scope else { return Ok(()) };
    let full = |path: &StorePath| store.print(path);
    // What belongs to a temporary root without being valid, such as a scratch directory, is kept too.
    let temporary = roots.iter().filter(|root| root.holder.is_temporary());
    let owners: HashMap<&str, &Root> = temporary.map(|root| (root.path.digest(), root)).collect();
    let is_alive = |path: &&StorePath| {
        graph.node(path).is_some_and(|node| alive.contains(node)) || owners.contains_key(path.digest())
    };
    let Some(path) = listed.iter().find(is_alive) else { return Ok(()) };
    let reason = match (reasons(graph, retention, roots, path).first(), owners.get(path.digest())) {
        (Some(reason), _) => {
            let way: Vec<String> = reason.way.iter().map(full).collect();
            format!("it is kept by the root '{}' -> {}", reason.holder, way.join(" -> "))
        }
        (None, Some(root)) => format!("it is kept by the root '{}' -> {}", root.holder, full(&root.path)),
        (None, None) => {
            let keepers = graph.nodes().filter(|node| {
                let is_other = graph.path(*node).is_some_and(|path| !listed.contains(path));
                is_other && retention.kept_by(graph, *node).any(|kept| graph.path(kept) == Some(path))
            });
            let keepers: Vec<String> =
                keepers.filter_map(|node| graph.path(node)).map(full).take(10).collect();
            format!("it is in use by {}", keepers.join(", "))
        }
    };
    Err(Error::StillAlive { path: full(path), reason })
}

/// Fails if a path that was to be deleted was spared since somebody has begun to use it after the roots were found.
pub(super) fn refuse_announced(
    store: &LocalStore,
    scope: &Scope,
    announced: &Announced,
    deleted: &[StorePath],
) -> Result<()> {
    let Scope::Paths { listed, .. } = scope else { return Ok(()) };
    let deleted: HashSet<&StorePath> = deleted.iter().collect();
    let is_spared = |path: &&StorePath| announced.is_announced(path) && !deleted.contains(path);
    match listed.iter().find(is_spared) {
        None => Ok(()),
        Some(path) => Err(Error::StillAlive {
            path: store.print(path),
            reason: "a process that is running has just begun to use it".to_owned(),
        }),
    }
}
