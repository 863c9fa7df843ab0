//! Comparing what a builder made once more with what is valid (D14).

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_diff::{Limits, Pair, compare_trees};
use kiln_events::BuildStatus;
use kiln_fs::{Component, Directory, delete_tree, rename_new};
use kiln_narinfo::PathInfo;
use kiln_store::{LocalStore, blocking};
use kiln_store_path::OutputName;

use super::collect::Collected;
use super::outputs::{Registration, collect_outputs};
use crate::engine::Core;
use crate::error::Failure;
use crate::execute::Workspace;

/// As many differences are told with a failure; `kiln store diff` tells all.
const DIFFERENCES_TOLD: usize = 10;

/// An output that is not what it was.
struct Changed {
    valid: Arc<PathInfo>,
    made: Collected,
}

/// Compares the outputs with the valid ones. Those that are the same have been built here from now on, whoever made them;
/// nothing else of what is valid is touched.
pub(crate) async fn check(
    core: &Arc<Core>,
    registration: Registration<'_>,
    workspace: &mut Workspace,
) -> Result<(), Failure> {
    let collected = collect_outputs(core, &registration).await?;
    let mut same = Vec::new();
    let mut changed = BTreeMap::new();
    for (name, made) in collected {
        // What is not valid was not asked for.
        let Some(valid) = core.store.path_info(&made.path).await? else { continue };
        if made.nar.hash == valid.nar_hash {
            same.push(valid);
        } else {
            changed.insert(name, Changed { valid, made });
        }
    }
    trust(core, same).await?;
    workspace.outputs_are_valid();
    if changed.is_empty() {
        return Ok(());
    }
    let derivation = core.store_dir().print(registration.path);
    let core = Arc::clone(core);
    Err(blocking(move || tell(&core, &derivation, changed)).await)
}

/// Notes that outputs were built here, and signs them.
async fn trust(core: &Core, same: Vec<Arc<PathInfo>>) -> Result<(), Failure> {
    let mut trusted = Vec::new();
    for info in same.into_iter().filter(|info| !info.ultimate) {
        let mut info = PathInfo { ultimate: true, ..PathInfo::clone(&info) };
        core.sign(&mut info)?;
        trusted.push(info);
    }
    if trusted.is_empty() { Ok(()) } else { Ok(core.store.register_valid_paths(trusted).await?) }
}

/// Says which outputs differ, and where; keeps them beside the valid ones if that is wanted.
fn tell(core: &Core, derivation: &str, changed: BTreeMap<OutputName, Changed>) -> Failure {
    let keeps = core.keeps_what_differs();
    let mut messages = Vec::new();
    for Changed { valid, made } in changed.into_values() {
        let path = core.store_dir().display(&valid.path);
        let mut message =
            format!("derivation '{derivation}' may not be deterministic: output '{path}' differs");
        let name = if keeps { format!("{path}.check") } else { "what was built now".to_owned() };
        let valid = LocalStore::component(&valid.path).map_err(Failure::from);
        let told = valid.and_then(|valid| differences(core, &valid, &made, path.to_string(), name));
        match told {
            Ok(report) if keeps => match keep(&core.store, &made) {
                Ok(_) => message.push_str(&format!(" from '{path}.check'\n{report}")),
                Err(error) => message.push_str(&format!("\n{report}it cannot be kept: {error}")),
            },
            Ok(report) => message.push_str(&format!("\n{report}")),
            Err(error) => {
                message.push_str(&format!("\nwhere cannot be told: {}", error.message.to_str_lossy()))
            }
        }
        messages.push(message.trim_end().to_owned());
    }
    Failure::new(BuildStatus::NotDeterministic, messages.join("\n"))
}

/// Where an output differs from the tree `other` in the store's directory, in words. The trees are called `a` and `b`.
pub(super) fn differences(
    core: &Core,
    other: &Component,
    made: &Collected,
    a: String,
    b: String,
) -> Result<String, Failure> {
    let name = LocalStore::component(&made.path)?;
    let limits = Limits { differences: DIFFERENCES_TOLD, ..Limits::default() };
    let report = compare_trees((core.store.directory(), other), (&made.directory, &name), &limits);
    let mut report = report.map_err(Failure::misc)?;
    report.roots = Pair { a: a.into(), b: b.into() };
    Ok(report.to_string())
}

/// Moves the output to `<path>.check`, in place of an older one.
pub(super) fn keep(store: &LocalStore, made: &Collected) -> Result<Component, kiln_fs::Error> {
    let name = Component::new(made.path.base_name())?;
    let kept = Component::new(format!("{}.check", made.path.base_name()))?;
    let to: &Directory = store.directory();
    delete_tree(to, &kept)?;
    rename_new((&made.directory, &name), (to, &kept))?;
    Ok(kept)
}
