//! The closures that a builder wants described (`exportReferencesGraph`, B5).

use std::collections::{BTreeMap, BTreeSet};

use kiln_derivation::{BuildOptions, GraphMember};
use kiln_events::BuildStatus;
use kiln_narinfo::PathInfo;
use kiln_store_path::StorePath;

use super::derivation::Target;
use crate::core::Core;
use crate::error::Failure;

/// Describes each closure that the options ask for.
pub(super) async fn references_graphs(
    core: &Core,
    target: &Target,
    options: &BuildOptions,
    inputs: &BTreeSet<StorePath>,
) -> Result<BTreeMap<String, Vec<GraphMember>>, Failure> {
    let store_dir = core.store_dir();
    let rejected = |message: String| {
        let derivation = store_dir.display(&target.path);
        Failure::new(BuildStatus::InputRejected, format!("derivation '{derivation}': {message}"))
    };
    let mut graphs = BTreeMap::new();
    for graph in &options.references_graphs {
        let roots = graph.store_paths(store_dir).map_err(|error| rejected(error.to_string()))?;
        if let Some(outside) = roots.difference(inputs).next() {
            return Err(rejected(format!(
                "cannot export references of path '{}' because it is not in the input closure of the derivation",
                store_dir.display(outside)
            )));
        }
        let closure = core.closure(&with_outputs(core, roots).await?).await?;
        graphs.insert(graph.name.clone(), describe(core, closure).await?);
    }
    Ok(graphs)
}

/// Derivations in the closure pull in their outputs' closures, too.
async fn with_outputs(core: &Core, roots: BTreeSet<StorePath>) -> Result<BTreeSet<StorePath>, Failure> {
    let mut all = roots.clone();
    for path in core.closure(&roots).await? {
        if path.is_derivation() {
            let derivation = core.store.read_derivation(&path).await?;
            let outputs: BTreeSet<StorePath> =
                derivation.known_output_paths().map(|(_, path)| path.clone()).collect();
            all.extend(core.valid(&outputs).await?);
        }
    }
    Ok(all)
}

async fn describe(core: &Core, closure: BTreeSet<StorePath>) -> Result<Vec<GraphMember>, Failure> {
    let mut infos: BTreeMap<StorePath, PathInfo> = BTreeMap::new();
    for path in closure {
        if let Some(info) = core.store.path_info(&path).await? {
            infos.insert(path, PathInfo::clone(&info));
        }
    }
    let members = infos
        .values()
        .map(|info| GraphMember { info: info.clone(), closure_size: closure_size(&info.path, &infos) });
    Ok(members.collect())
}

fn closure_size(path: &StorePath, infos: &BTreeMap<StorePath, PathInfo>) -> u64 {
    let mut seen = BTreeSet::new();
    let mut open = vec![path];
    let mut size = 0;
    while let Some(info) = open.pop().and_then(|path| infos.get(path)) {
        if seen.insert(&info.path) {
            size += info.nar_size;
            open.extend(info.references.iter().filter(|path| !seen.contains(path)));
        }
    }
    size
}
