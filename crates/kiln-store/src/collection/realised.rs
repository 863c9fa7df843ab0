//! Outputs whose paths follow from their content: which they are is on record as realisations, not with their derivation.

use kiln_database::{Graph, Node};
use kiln_events::EventSender;
use kiln_store_path::StorePath;

use super::liveness::Retention;
use crate::error::Result;
use crate::local::LocalStore;

/// The graph that liveness follows from. With `keep-outputs` it has the outputs that realisations name, if the store is one for
/// content-addressed derivations.
///
/// Of a derivation that cannot be read no such outputs are known; that is told.
pub(super) fn load_graph(store: &LocalStore, retention: Retention, events: &EventSender) -> Result<Graph> {
    let mut graph = store.database().load_graph()?;
    if !retention.outputs || !store.config().realisations {
        return Ok(graph);
    }
    let mut realised = Vec::new();
    for derivation in store.database().reader()?.derivations_without_known_outputs()? {
        let Some(node) = graph.node(&derivation) else { continue };
        match outputs(store, &derivation) {
            Ok(outputs) => realised.extend(edges(&graph, node, &outputs)),
            Err(error) => events.warn(format!(
                "the outputs of '{}' are not known and not kept: {error}",
                store.print(&derivation)
            )),
        }
    }
    if !realised.is_empty() {
        graph.add_outputs(realised);
    }
    Ok(graph)
}

fn edges(graph: &Graph, derivation: Node, outputs: &[StorePath]) -> Vec<(Node, Node)> {
    outputs.iter().filter_map(|output| Some((derivation, graph.node(output)?))).collect()
}

/// As which paths a derivation's outputs were built, as far as they were.
fn outputs(store: &LocalStore, path: &StorePath) -> Result<Vec<StorePath>> {
    let derivation = store.read_derivation_blocking(path)?;
    let hash = store.hash_modulo_blocking(path, &derivation)?;
    let reader = store.database().reader()?;
    let mut outputs = Vec::new();
    for name in derivation.outputs.keys() {
        let realisation = reader.realisation(&hash.realisation_id(name.clone()))?;
        outputs.extend(realisation.map(|realisation| realisation.output_path));
    }
    Ok(outputs)
}
