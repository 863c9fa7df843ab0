//! Outputs whose paths follow from content, as others have made them: a substituter that has the realisation of an output
//! spares the build, and all that it needs.

use std::collections::BTreeMap;

use kiln_narinfo::Realisation;
use kiln_store_path::{OutputName, OutputsSpec};
use kiln_substitute::Substituters;

use super::derivation::Target;
use crate::core::Core;
use crate::error::Failure;

/// Asks substituters as which paths those wanted outputs were made whose paths are not known here. The target has the paths
/// from here on.
pub(super) async fn find_realisations(
    core: &Core,
    substituters: &Substituters,
    target: &mut Target,
    wanted: &OutputsSpec,
) -> Result<BTreeMap<OutputName, Realisation>, Failure> {
    let names = target.derivation.outputs.keys().filter(|name| wanted.contains(name));
    let open: Vec<OutputName> = names.filter(|name| !target.outputs.contains_key(*name)).cloned().collect();
    let mut found = BTreeMap::new();
    if open.is_empty() || !core.store.config().realisations {
        return Ok(found);
    }
    let hash = core.store.hash_modulo(&target.path, std::sync::Arc::clone(&target.derivation)).await?;
    for name in open {
        let id = hash.realisation_id(name.clone());
        let answer = substituters.realisation(&id).await;
        for substituter in answer.distrusted {
            core.events.warn(format!(
                "substituter '{substituter}' does not have a valid signature for derivation output '{id}'"
            ));
        }
        for trouble in answer.troubles {
            core.audience.warn_of(&trouble.matter(), &trouble.to_string());
        }
        // Without one of them, there is a build all the same.
        let Some(realisation) = answer.realisation else { break };
        target.outputs.insert(name.clone(), realisation.output_path.clone());
        found.insert(name, realisation);
    }
    Ok(found)
}

/// Puts on record what has become valid, and forgets the paths of the rest.
pub(super) async fn keep_realisations(
    core: &Core,
    target: &mut Target,
    found: BTreeMap<OutputName, Realisation>,
) -> Result<(), Failure> {
    for (name, realisation) in found {
        if target.valid.contains(&realisation.output_path) {
            core.store.register_realisation(realisation).await?;
        } else {
            target.outputs.remove(&name);
        }
    }
    Ok(())
}
