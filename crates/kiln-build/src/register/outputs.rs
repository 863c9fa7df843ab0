//! Making outputs valid, or refusing them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_derivation::{BuildOptions, Derivation};
use kiln_events::BuildStatus;
use kiln_fs::{FailPoint, fail_point};
use kiln_hash::Hash;
use kiln_narinfo::PathInfo;
use kiln_store::blocking;
use kiln_store_path::{ContentAddress, OutputName, StorePath};

use super::checks::{Infos, check_output, needs_closure};
use super::collect::{Collect, CollectError, Collected, collect};
use super::content::{ContentError, hash_content};
use super::publish::{NewOutputs, move_into_store, publish, replace_in_store};
use super::settle::{Settle, SettleError};
use crate::core::Core;
use crate::error::Failure;
use crate::execute::Workspace;
use crate::goal::contents_are_good;
use crate::leftovers::delete_leftovers;
use crate::plan::PlannedOutput;

/// What a successful builder left, and what the derivation says of it.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    pub(crate) path: &'a StorePath,
    pub(crate) derivation: &'a Arc<Derivation>,
    pub(crate) options: &'a BuildOptions,
    /// The paths of outputs that are known, also of those that were valid before.
    pub(crate) output_paths: &'a BTreeMap<OutputName, StorePath>,
    /// Those of all outputs that the builder was told.
    pub(crate) scratch: BTreeMap<OutputName, StorePath>,
    /// Those to register.
    pub(crate) outputs: BTreeMap<OutputName, PlannedOutput>,
    /// What they may refer to, besides each other.
    pub(crate) inputs: &'a BTreeSet<StorePath>,
    pub(crate) builder: Option<u32>,
    pub(crate) copy_to: Option<PathBuf>,
    /// Where the engine can make trees of its own, if it has to.
    pub(crate) own_directory: PathBuf,
    /// What is valid is replaced: its contents are not what they were.
    pub(crate) replaces: bool,
}

/// What is not as the derivation, or the store, demands.
fn rejected(message: impl Into<String>) -> Failure {
    Failure::new(BuildStatus::OutputRejected, message.into())
}

/// Registers the outputs that were taken over: all of them, or none. Returns their paths.
pub(crate) async fn register(
    core: &Arc<Core>,
    registration: Registration<'_>,
    collected: BTreeMap<OutputName, Collected>,
    workspace: &mut Workspace,
) -> Result<BTreeMap<OutputName, StorePath>, Failure> {
    let settled = settle_outputs(core, &registration, collected).await?;
    let (infos, collected) = describe(core, &registration, settled).await?;
    check(core, &registration, &infos).await?;
    let paths = infos.iter().map(|(name, info)| (name.clone(), info.path.clone())).collect();
    let new = NewOutputs {
        infos: infos.into_values().collect(),
        trees: collected,
        replaces: registration.replaces,
    };
    workspace.finish(publish(Arc::clone(core), new)).await??;
    workspace.outputs_are_valid();
    Ok(paths)
}

/// Gives the outputs their own paths.
pub(crate) async fn settle_outputs(
    core: &Core,
    registration: &Registration<'_>,
    collected: BTreeMap<OutputName, Collected>,
) -> Result<BTreeMap<OutputName, Collected>, Failure> {
    let store_dir = core.store_dir().clone();
    let (derivation, outputs) = (Arc::clone(registration.derivation), registration.outputs.clone());
    let own_directory = registration.own_directory.clone();
    let told = registration.scratch.clone();
    if told
        .iter()
        .all(|(name, told)| derivation.outputs.get(name).and_then(|output| output.path()) == Some(told))
    {
        return Ok(collected);
    }
    let settled = blocking(move || {
        let terms = Settle {
            store_dir: &store_dir,
            derivation: &derivation,
            outputs: &outputs,
            told: &told,
            own_directory: &own_directory,
        };
        terms.settle(collected)
    });
    let settled = settled.await.map_err(|error| match error {
        SettleError::Files(error) | SettleError::Content { error: ContentError::Files(error), .. } => {
            error.into()
        }
        SettleError::Content { error: ContentError::Read(error), .. } => error.into(),
        refused => rejected(refused.to_string()),
    })?;
    for path in settled.rewritten {
        let path = core.store_dir().display(&path);
        core.events.warn(format!("rewriting hashes in '{path}'; cross fingers"));
    }
    Ok(settled.outputs)
}

/// Takes over what the builder made.
pub(crate) async fn collect_outputs(
    core: &Core,
    registration: &Registration<'_>,
) -> Result<BTreeMap<OutputName, Collected>, Failure> {
    let outputs = registration.scratch.values().chain(registration.output_paths.values());
    let referenceable = registration.inputs.iter().chain(outputs).cloned().collect();
    let terms = Collect {
        outputs: registration.outputs.clone(),
        builder: registration.builder,
        referenceable,
        copy_to: registration.copy_to.clone(),
        ignored_attributes: core.settings.ignored_acls.iter().cloned().collect(),
        hash_files: core.store.config().auto_optimise,
    };
    collect(terms).await.map_err(|error| refuse_collecting(core, registration, error))
}

/// What is wrong with outputs, in the paths that users know.
fn refuse_collecting(core: &Core, registration: &Registration<'_>, error: CollectError) -> Failure {
    let store_dir = core.store_dir();
    match error {
        CollectError::Missing(path) => rejected(format!(
            "builder for '{}' failed to produce output path '{}'",
            store_dir.display(registration.path),
            store_dir.display(&path)
        )),
        // The machine failed, not the builder.
        CollectError::Files(error) if error.os_error().is_some() => error.into(),
        CollectError::Files(error) => {
            let made_in = registration.outputs.values().map(|output| output.directory.display().to_string());
            let message = made_in.fold(error.to_string(), |message, directory| {
                message.replace(&directory, store_dir.as_str())
            });
            rejected(message)
        }
    }
}

/// The metadata of each output, by its name. Checks the hash of a fixed output.
async fn describe(
    core: &Core,
    registration: &Registration<'_>,
    collected: BTreeMap<OutputName, Collected>,
) -> Result<(BTreeMap<OutputName, PathInfo>, Vec<Collected>), Failure> {
    let mut infos = BTreeMap::new();
    let mut trees = Vec::new();
    for (name, mut output) in collected {
        let mut info = PathInfo::new(output.path.clone(), output.nar.hash, output.nar.size);
        info.content_address = output.address;
        info.deriver = Some(registration.path.clone());
        info.ultimate = true;
        // What a path follows from stays on record.
        if output.address.is_some() || !registration.options.unsafe_discard_references.contains(&name) {
            info.references = std::mem::take(&mut output.references);
        }
        if let Some((stated, _)) = registration.derivation.fixed_output() {
            output = check_fixed(core, registration, &mut info, output, *stated).await?;
        }
        core.sign(&mut info)?;
        infos.insert(name, info);
        trees.push(output);
    }
    Ok((infos, trees))
}

/// Compares a fixed output with what its derivation states. Content with another hash becomes valid under the path that
/// this hash gives, so that it need not be made again, and fails the build.
async fn check_fixed(
    core: &Core,
    registration: &Registration<'_>,
    info: &mut PathInfo,
    output: Collected,
    stated: ContentAddress,
) -> Result<Collected, Failure> {
    let references = std::mem::take(&mut info.references);
    let (output, hash) = fixed_hash(core, registration, output, &references, stated).await?;
    let store_dir = core.store_dir();
    let address = ContentAddress { method: stated.method, hash };
    let name = info.path.to_name();
    let path = store_dir.make_content_addressed_path(&name, &address, &info.split_references()).map_err(
        |error| rejected(format!("derivation '{}': {error}", store_dir.display(registration.path))),
    )?;
    info.content_address = Some(address);
    if hash == stated.hash {
        return Ok(output);
    }
    keep_mismatched(core, info.clone(), path, output, registration.replaces).await?;
    Err(mismatch(core, registration, stated.hash, hash))
}

/// The hash of a fixed output's content, as its derivation wants it hashed. References, of which it must have none, are those
/// that count.
pub(super) async fn fixed_hash(
    core: &Core,
    registration: &Registration<'_>,
    output: Collected,
    references: &BTreeSet<StorePath>,
    stated: ContentAddress,
) -> Result<(Collected, Hash), Failure> {
    let store_dir = core.store_dir();
    if !references.is_empty() {
        let paths = references.iter().map(|path| format!("\n  {}", store_dir.display(path)));
        return Err(rejected(format!(
            "illegal path references in fixed-output derivation '{}':{}",
            store_dir.display(registration.path),
            paths.collect::<String>()
        )));
    }
    let path = output.path.clone();
    let (output, hash) = blocking(move || {
        let hash = hash_content(&output, stated.method, stated.hash.algorithm());
        (output, hash)
    })
    .await;
    let hash = hash.map_err(|error| match error {
        ContentError::Files(error) => error.into(),
        ContentError::Read(error) => error.into(),
        refused @ (ContentError::NotFlat | ContentError::Method(_)) => {
            rejected(format!("output path '{}' {refused}", store_dir.display(&path)))
        }
    })?;
    Ok((output, hash))
}

pub(super) fn mismatch(core: &Core, registration: &Registration<'_>, specified: Hash, got: Hash) -> Failure {
    let message = format!(
        "hash mismatch in fixed-output derivation '{}':\n  specified: {}\n     got:    {}",
        core.store_dir().display(registration.path),
        specified.sri(),
        got.sri()
    );
    Failure::new(BuildStatus::HashMismatch, message)
}

/// Makes content valid under the path of the hash that it really has, unless it is valid there already. With `repairs`, it takes
/// the place of what is valid there and is damaged.
async fn keep_mismatched(
    core: &Core,
    mut info: PathInfo,
    path: StorePath,
    output: Collected,
    repairs: bool,
) -> Result<(), Failure> {
    core.store.add_temp_roots(vec![path.clone()]).await?;
    let mut locks = core.store.lock_paths(vec![path.clone()], |_| {}).await?;
    let is_valid = core.store.is_valid(&path).await?;
    let is_damaged = is_valid && repairs && !contents_are_good(core, &path).await?;
    if !is_valid || is_damaged {
        if !is_valid {
            delete_leftovers(&core.store, BTreeSet::from([path.clone()])).await?;
        }
        info.path = path.clone();
        core.sign(&mut info)?;
        let store = core.store.clone();
        blocking(move || {
            if is_damaged {
                replace_in_store(&store, &output, &info.path)?;
            } else {
                move_into_store(&store, &output, &info.path)?;
                fail_point(FailPoint::MismatchMoved);
                store.optimise_new(&info.path, output.files.as_deref())?;
            }
            Ok::<_, Failure>(store.register_blocking(vec![info])?)
        })
        .await?;
        core.contents.made(&path);
    }
    locks.delete_on_release(true);
    Ok(())
}

async fn check(
    core: &Core,
    registration: &Registration<'_>,
    infos: &BTreeMap<OutputName, PathInfo>,
) -> Result<(), Failure> {
    let checked: Vec<_> = infos
        .iter()
        .filter_map(|(name, info)| Some((info, registration.options.output_checks.of(name)?)))
        .collect();
    let mut known: Infos = infos.values().map(|info| (info.path.clone(), info.clone())).collect();
    if checked.iter().any(|(_, check)| needs_closure(check)) {
        let references: BTreeSet<StorePath> =
            infos.values().flat_map(|info| info.references.iter().cloned()).collect();
        let registered: BTreeSet<StorePath> =
            references.into_iter().filter(|path| !known.contains_key(path)).collect();
        for path in core.closure(&registered).await? {
            if let Some(info) = core.store.path_info(&path).await? {
                known.insert(path, PathInfo::clone(&info));
            }
        }
    }
    let mut outputs = registration.output_paths.clone();
    outputs.extend(infos.iter().map(|(name, info)| (name.clone(), info.path.clone())));
    for (info, check) in checked {
        check_output(core.store_dir(), registration.derivation, &outputs, info, check, &known)
            .map_err(|error| rejected(error.to_string()))?;
    }
    Ok(())
}
