//! Comparing what a builder made once more with what is valid (D14).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_diff::{Limits, Pair, compare_trees};
use kiln_events::BuildStatus;
use kiln_fs::{Component, Directory, FailPoint, delete_tree, fail_point, rename_new};
use kiln_narinfo::PathInfo;
use kiln_store::{LocalStore, blocking};
use kiln_store_path::{ContentAddress, OutputName};

use super::collect::Collected;
use super::outputs::{Registration, collect_outputs, fixed_hash, mismatch, settle_outputs};
use crate::core::Core;
use crate::error::Failure;
use crate::execute::Workspace;
use crate::hooks::{Differing, diff_hook};

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
    let collected = settle_outputs(core, &registration, collected).await?;
    let mut same = Vec::new();
    let mut changed = BTreeMap::new();
    for (name, made) in collected {
        // What is not valid was not asked for.
        let Some(path) = registration.output_paths.get(&name) else { continue };
        let Some(valid) = core.store.path_info(path).await? else { continue };
        let made = match registration.derivation.fixed_output() {
            Some((stated, _)) => check_hash(core, &registration, &name, made, *stated).await?,
            None => made,
        };
        if made.nar.hash == valid.nar_hash {
            same.push(valid);
        } else {
            changed.insert(name, Changed { valid, made });
        }
    }
    trust(core, same).await?;
    if changed.is_empty() {
        workspace.outputs_are_valid();
        return Ok(());
    }
    let derivation = core.store_dir().print(registration.path);
    let (failure, kept) = blocking({
        let (core, derivation) = (Arc::clone(core), derivation.clone());
        move || tell(&core, &derivation, changed)
    })
    .await;
    for (old, new) in kept {
        run_diff_hook(core, workspace, &derivation, &old, &new).await;
    }
    Err(failure)
}

/// Compares a fixed output with what its derivation states: that is what it should be, whatever the valid one is (O3).
async fn check_hash(
    core: &Core,
    registration: &Registration<'_>,
    name: &OutputName,
    made: Collected,
    stated: ContentAddress,
) -> Result<Collected, Failure> {
    let is_discarded = registration.options.unsafe_discard_references.contains(name);
    let references = if is_discarded { BTreeSet::new() } else { made.references.clone() };
    let (made, hash) = fixed_hash(core, registration, made, &references, stated).await?;
    if hash == stated.hash { Ok(made) } else { Err(mismatch(core, registration, stated.hash, hash)) }
}

/// Has the diff hook look at two trees in the store's directory.
pub(super) async fn run_diff_hook(
    core: &Core,
    workspace: &Workspace,
    derivation: &str,
    old: &Component,
    new: &Component,
) {
    let (real, build_directory) = (core.real_dir(), workspace.build_directory().unwrap_or_default());
    let differing = Differing {
        old: &real.join(old.as_path()),
        new: &real.join(new.as_path()),
        derivation,
        build_directory: &build_directory,
        credentials: &workspace.credentials(),
    };
    diff_hook(core, &differing).await;
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

/// Says which outputs differ, and where; keeps them beside the valid ones if that is wanted, and names both.
fn tell(
    core: &Core,
    derivation: &str,
    changed: BTreeMap<OutputName, Changed>,
) -> (Failure, Vec<(Component, Component)>) {
    let keeps = core.keeps_what_differs();
    let mut kept = Vec::new();
    let mut messages = Vec::new();
    for Changed { valid, made } in changed.into_values() {
        let path = core.store_dir().display(&valid.path);
        let mut message =
            format!("derivation '{derivation}' may not be deterministic: output '{path}' differs");
        let name = if keeps { format!("{path}.check") } else { "what was built now".to_owned() };
        let valid = LocalStore::component(&valid.path).map_err(Failure::from);
        let told =
            valid.and_then(|valid| Ok((differences(core, &valid, &made, path.to_string(), name)?, valid)));
        match told {
            Ok((report, valid)) if keeps => match keep(&core.store, &made) {
                Ok(check) => {
                    message.push_str(&format!(" from '{path}.check'\n{report}"));
                    kept.push((valid, check));
                }
                Err(error) => message.push_str(&format!("\n{report}it cannot be kept: {error}")),
            },
            Ok((report, _)) => message.push_str(&format!("\n{report}")),
            Err(error) => {
                message.push_str(&format!("\nwhere cannot be told: {}", error.message.to_str_lossy()))
            }
        }
        messages.push(message.trim_end().to_owned());
    }
    (Failure::new(BuildStatus::NotDeterministic, messages.join("\n")), kept)
}

/// Where an output differs from the tree `other` in the store's directory, in words. The trees are called `a` and `b`.
pub(super) fn differences(
    core: &Core,
    other: &Component,
    made: &Collected,
    a: String,
    b: String,
) -> Result<String, Failure> {
    let limits = Limits { differences: DIFFERENCES_TOLD, ..Limits::default() };
    let report = compare_trees((core.store.directory(), other), (&made.directory, &made.tree), &limits);
    let mut report = report.map_err(Failure::misc)?;
    report.roots = Pair { a: a.into(), b: b.into() };
    Ok(report.to_string())
}

/// Where an output is kept.
pub(super) fn kept_name(made: &Collected) -> Result<Component, kiln_fs::Error> {
    Ok(Component::new(format!("{}.check", made.path.base_name()))?)
}

/// Moves the output to `<path>.check`, in place of an older one.
pub(super) fn keep(store: &LocalStore, made: &Collected) -> Result<Component, kiln_fs::Error> {
    let kept = kept_name(made)?;
    let to: &Directory = store.directory();
    delete_tree(to, &kept)?;
    rename_new((&made.directory, &made.tree), (to, &kept))?;
    fail_point(FailPoint::OutputKept);
    Ok(kept)
}
