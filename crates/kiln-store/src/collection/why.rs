//! Why a path is alive: the way to it from a root.

use std::collections::HashMap;
use std::fmt;

use kiln_database::{Graph, Node};
use kiln_events::EventSender;
use kiln_store_path::StorePath;

use super::liveness::Retention;
use super::realised::load_graph;
use crate::error::Result;
use crate::local::LocalStore;
use crate::roots::{Holder, Root};

/// Why a path is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What holds the first path of the way.
    pub holder: Holder,
    /// From the root to the path, each of which keeps the next one; a shortest way.
    pub way: Vec<StorePath>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.holder.fmt(f)?;
        self.way.iter().try_for_each(|path| write!(f, " -> {path}"))
    }
}

impl LocalStore {
    /// For each of `paths`: all roots that keep it, each with a way to it, sorted. Those that nothing keeps have none.
    ///
    /// # Errors
    /// The database or the directories of roots cannot be read.
    pub async fn why_alive(
        &self,
        paths: Vec<StorePath>,
        retention: Retention,
        events: EventSender,
    ) -> Result<Vec<Vec<Reason>>> {
        self.work(move |store| {
            let roots = store.roots_blocking()?.roots;
            let graph = load_graph(store, retention, &events)?;
            Ok(paths.iter().map(|path| reasons(&graph, retention, &roots, path)).collect())
        })
        .await
    }
}

/// All reasons for which a path is alive. Looks from the path backwards, so that one search finds the ways from all roots.
pub(super) fn reasons(graph: &Graph, retention: Retention, roots: &[Root], path: &StorePath) -> Vec<Reason> {
    let Some(target) = graph.node(path) else { return Vec::new() };
    let next = next_on_the_way(graph, retention, target);
    let way = |root: &Root| {
        let mut node = graph.node(&root.path)?;
        let mut way = vec![root.path.clone()];
        while node != target {
            node = *next.get(&node)?;
            way.push(graph.path(node)?.clone());
        }
        Some(Reason { holder: root.holder.clone(), way })
    };
    let mut reasons: Vec<Reason> = roots.iter().filter_map(way).collect();
    reasons.sort_by(|a, b| (a.way.len(), &a.holder).cmp(&(b.way.len(), &b.holder)));
    reasons
}

/// Of each node from which `target` can be reached: where a shortest way goes next.
fn next_on_the_way(graph: &Graph, retention: Retention, target: Node) -> HashMap<Node, Node> {
    // Of derivers there are no edges backwards in the graph.
    let mut derived: HashMap<Node, Vec<Node>> = HashMap::new();
    let mut derivations: HashMap<Node, Vec<Node>> = HashMap::new();
    for node in graph.nodes() {
        if let Some(deriver) = graph.deriver(node).filter(|_| retention.derivations) {
            derived.entry(deriver).or_default().push(node);
        }
        for output in graph.outputs(node).iter().filter(|_| retention.outputs) {
            derivations.entry(*output).or_default().push(node);
        }
    }
    let mut next = HashMap::new();
    let mut reached = vec![target];
    let mut position = 0;
    while let Some(&node) = reached.get(position) {
        position += 1;
        let keepers = [graph.referrers(node), list(&derived, node), list(&derivations, node)];
        for keeper in keepers.into_iter().flatten().copied() {
            if keeper != target && !next.contains_key(&keeper) {
                next.insert(keeper, node);
                reached.push(keeper);
            }
        }
    }
    next
}

fn list(lists: &HashMap<Node, Vec<Node>>, node: Node) -> &[Node] {
    lists.get(&node).map_or(&[], Vec::as_slice)
}
