//! How much paths take.

use kiln_database::{Graph, Node};
use kiln_store_path::StorePath;

use crate::error::Result;
use crate::local::LocalStore;

/// What a path takes, in bytes, as the sizes of archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The path.
    pub path: StorePath,
    /// It alone.
    pub nar_size: u64,
    /// It and all that it needs.
    pub closure_size: u64,
    /// That part of its closure that nothing outside of it refers to, not even indirectly.
    pub exclusive_size: u64,
}

impl LocalStore {
    /// What each of `paths` takes.
    ///
    /// # Errors
    /// One of them is not valid.
    pub async fn usage(&self, paths: Vec<StorePath>) -> Result<Vec<Usage>> {
        self.work(move |store| {
            let graph = store.database().load_graph()?;
            let usage = |path: &StorePath| {
                let node = graph.node(path).ok_or_else(|| store.not_valid(path))?;
                Ok(usage(&graph, path, node))
            };
            paths.iter().map(usage).collect()
        })
        .await
    }
}

fn usage(graph: &Graph, path: &StorePath, node: Node) -> Usage {
    let closure = graph.closure([node]);
    // Only what is referred to from outside directly can be reached from there at all.
    let is_outside = |by: &Node| !closure.contains(*by);
    let entered = closure.iter().filter(|node| graph.referrers(*node).iter().any(is_outside));
    // That others need the path itself doesn't make what it takes theirs.
    let shared = graph.closure(entered.filter(|entered| *entered != node));
    let size = |nodes: &mut dyn Iterator<Item = Node>| {
        nodes.map(|node| graph.nar_size(node)).fold(0, u64::saturating_add)
    };
    Usage {
        path: path.clone(),
        nar_size: graph.nar_size(node),
        closure_size: size(&mut closure.iter()),
        exclusive_size: size(&mut closure.iter().filter(|node| !shared.contains(*node))),
    }
}
