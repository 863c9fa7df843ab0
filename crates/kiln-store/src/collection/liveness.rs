//! Which paths are alive: a matter of the graph, the roots and two settings.

use kiln_database::{Graph, Node, NodeSet};

/// What keeps what alive, besides references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `keep-outputs`: a derivation keeps its valid outputs.
    pub outputs: bool,
    /// `keep-derivations`: an output keeps the derivation on record as its deriver.
    pub derivations: bool,
}

impl Default for Retention {
    /// The defaults of the settings.
    fn default() -> Self {
        Self { outputs: false, derivations: true }
    }
}

impl Retention {
    /// References keep what they lead to, and nothing else does.
    pub const REFERENCES: Self = Self { outputs: false, derivations: false };

    /// What a path keeps alive.
    pub(super) fn kept_by(self, graph: &Graph, node: Node) -> impl Iterator<Item = Node> {
        let outputs = if self.outputs { graph.outputs(node) } else { &[] };
        let deriver = if self.derivations { graph.deriver(node) } else { None };
        graph.references(node).iter().chain(outputs).copied().chain(deriver)
    }

    /// Adds to `alive` what `start` keeps alive, itself included. What is among them already is taken as done.
    pub(super) fn mark(self, graph: &Graph, start: impl IntoIterator<Item = Node>, alive: &mut NodeSet) {
        let mut pending: Vec<Node> = start.into_iter().filter(|node| alive.insert(*node)).collect();
        while let Some(node) = pending.pop() {
            pending.extend(self.kept_by(graph, node).filter(|node| alive.insert(*node)));
        }
    }
}
