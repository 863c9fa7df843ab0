//! Whether what is valid is there.

use std::collections::HashSet;
use std::sync::Arc;

use kiln_database::{Graph, Node, NodeSet};
use kiln_store_path::StorePath;

use super::{Check, Finding, Verified};
use crate::error::Result;
use crate::local::LocalStore;

/// Referrers that are named.
const NAMED: usize = 10;

impl Check<'_> {
    /// Looks for all valid paths. Those that are gone become invalid, unless something refers to them that is there.
    pub(super) fn presence(&self) -> Result<Verified> {
        let _lock = self.lock()?;
        let graph = self.store.database().load_graph()?;
        let missing = self.missing(&graph)?;
        // Whatever is there needs all that it refers to.
        let mut needed = graph.empty_set();
        let referrers_are_there =
            |node: &Node| graph.referrers(*node).iter().any(|by| !missing.contains(*by));
        graph.reach(missing.iter().filter(referrers_are_there), &mut needed, Graph::references);
        let (needed, gone): (Vec<Node>, Vec<Node>) = missing.iter().partition(|node| needed.contains(*node));
        let paths = |nodes: &[Node]| -> Vec<StorePath> {
            nodes.iter().filter_map(|node| graph.path(*node).cloned()).collect()
        };
        let gone = paths(&gone);
        if !self.store.config().read_only && !gone.is_empty() {
            self.store.invalidate_blocking(Arc::from(gone.as_slice()))?;
        }
        let mut findings: Vec<Finding> = gone.into_iter().map(Finding::Disappeared).collect();
        for node in needed {
            let Some(path) = graph.path(node).cloned() else { continue };
            let referrers = graph.referrers(node).iter().filter(|by| **by != node).copied();
            findings.push(Finding::Missing {
                path,
                referrers: paths(&referrers.take(NAMED).collect::<Vec<_>>()),
            });
        }
        Ok(Verified { paths: graph.len() as u64, findings, repaired: Vec::new() })
    }

    /// The valid paths that are not in the store directory.
    fn missing(&self, graph: &Graph) -> Result<NodeSet> {
        let directory = self.store.directory();
        let names: HashSet<Vec<u8>> =
            directory.names()?.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut missing = graph.empty_set();
        for node in graph.nodes() {
            self.cancel.check()?;
            let Some(path) = graph.path(node) else { continue };
            // A repair that swaps a path just now can hide it from a listing.
            if !names.contains(path.base_name().as_bytes())
                && directory.status(&LocalStore::component(path)?)?.is_none()
            {
                missing.insert(node);
            }
        }
        Ok(missing)
    }
}
