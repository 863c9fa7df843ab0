//! Repairing what good outputs refer to (D15).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kiln_events::Verbosity;
use kiln_store_path::{OutputsSpec, StorePath};

use super::contents::contents_are_good;
use super::derivation::Target;
use super::outcome::{Outcome, OutcomeKind};
use super::path::repair_goal;
use crate::core::Core;
use crate::error::Failure;
use crate::request::BuildMode;

/// Makes good whatever is corrupt in the closure of the outputs, which are good themselves.
pub(super) async fn repair_closure(
    core: &Core,
    target: &Target,
    outputs: &BTreeSet<StorePath>,
) -> Result<(), Failure> {
    let derivation = core.store_dir().display(&target.path).to_string();
    let mut corrupt = Vec::new();
    for path in core.closure(outputs).await? {
        if !target.outputs.values().any(|own| *own == path) && !contents_are_good(core, &path).await? {
            let message = format!(
                "found corrupted or missing path '{}' in the output closure of '{derivation}'",
                core.store_dir().display(&path)
            );
            core.events.message(Verbosity::Error, message);
            corrupt.push(path);
        }
    }
    if corrupt.is_empty() {
        return Ok(());
    }
    let makers = makers(core, target).await?;
    let mut repairs: FuturesUnordered<_> = corrupt
        .into_iter()
        .map(|path| {
            let maker = makers.get(&path);
            async move {
                match maker {
                    None => repair_goal(core, &path).await.kind,
                    Some(maker) => {
                        let goal = core.want_derivation(maker, OutputsSpec::All, BuildMode::Repair);
                        goal.result().await.unwrap_or_else(Outcome::lost).kind
                    }
                }
            }
        })
        .collect();
    let mut all_good = true;
    while let Some(kind) = repairs.next().await {
        all_good &= kind == OutcomeKind::Success;
    }
    if all_good {
        return Ok(());
    }
    Err(Failure::misc(format!(
        "some paths in the output closure of derivation '{derivation}' could not be repaired"
    )))
}

/// Which of the derivations that the target was built from makes which path.
async fn makers(core: &Core, target: &Target) -> Result<BTreeMap<StorePath, StorePath>, Failure> {
    let mut makers = BTreeMap::new();
    if target.is_basic {
        return Ok(makers);
    }
    for path in core.closure([&target.path]).await?.into_iter().filter(StorePath::is_derivation) {
        let derivation = core.store.read_derivation(&path).await?;
        for (_, output) in derivation.known_output_paths() {
            makers.insert(output.clone(), path.clone());
        }
    }
    Ok(makers)
}
