//! Making outputs valid, or refusing them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_derivation::{BuildOptions, Derivation};
use kiln_events::BuildStatus;
use kiln_fs::{Component, Directory, rename_new};
use kiln_hash::Hash;
use kiln_narinfo::PathInfo;
use kiln_store::{LocalStore, blocking};
use kiln_store_path::{ContentAddress, OutputName, StorePath};

use super::checks::{Infos, check_output, needs_closure};
use super::collect::{Collect, CollectError, Collected, collect};
use super::fixed::{FixedError, hash_output};
use crate::engine::Core;
use crate::error::Failure;
use crate::execute::Workspace;
use crate::leftovers::delete_leftovers;
use crate::plan::PlannedOutput;

/// What a successful builder left, and what the derivation says of it.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    pub(crate) path: &'a StorePath,
    pub(crate) derivation: &'a Arc<Derivation>,
    pub(crate) options: &'a BuildOptions,
    /// Paths of all outputs, also of those that were valid before.
    pub(crate) output_paths: &'a BTreeMap<OutputName, StorePath>,
    /// Those to register.
    pub(crate) outputs: BTreeMap<OutputName, PlannedOutput>,
    /// What they may refer to, besides each other.
    pub(crate) inputs: &'a BTreeSet<StorePath>,
    pub(crate) builder: Option<u32>,
    pub(crate) copy_to: Option<PathBuf>,
}

/// What is not as the derivation, or the store, demands.
fn rejected(message: impl Into<String>) -> Failure {
    Failure::new(BuildStatus::OutputRejected, message.into())
}

/// Registers the outputs that were taken over: all of them, or none.
pub(crate) async fn register(
    core: &Arc<Core>,
    registration: Registration<'_>,
    collected: BTreeMap<OutputName, Collected>,
    workspace: &mut Workspace,
) -> Result<(), Failure> {
    let (infos, collected) = describe(core, &registration, collected).await?;
    check(core, &registration, &infos).await?;
    let publishing = publish(Arc::clone(core), infos.into_values().collect(), collected);
    workspace.finish(publishing).await??;
    workspace.outputs_are_valid();
    Ok(())
}

/// Takes over what the builder made.
pub(crate) async fn collect_outputs(
    core: &Core,
    registration: &Registration<'_>,
) -> Result<BTreeMap<OutputName, Collected>, Failure> {
    let referenceable =
        registration.inputs.iter().chain(registration.output_paths.values()).cloned().collect();
    let terms = Collect {
        outputs: registration.outputs.clone(),
        builder: registration.builder,
        referenceable,
        copy_to: registration.copy_to.clone(),
        ignored_attributes: core.settings.ignored_acls.iter().cloned().collect(),
    };
    blocking(move || collect(&terms)).await.map_err(|error| refuse_collecting(core, registration, error))
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
        info.deriver = Some(registration.path.clone());
        info.ultimate = true;
        if !registration.options.unsafe_discard_references.contains(&name) {
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
    let store_dir = core.store_dir();
    if !info.references.is_empty() {
        let paths = info.references.iter().map(|path| format!("\n  {}", store_dir.display(path)));
        return Err(rejected(format!(
            "illegal path references in fixed-output derivation '{}':{}",
            store_dir.display(registration.path),
            paths.collect::<String>()
        )));
    }
    let (output, hash) = blocking(move || {
        let hash = hash_output(&output, stated.method, stated.hash.algorithm());
        (output, hash)
    })
    .await;
    let hash = hash.map_err(|error| match error {
        FixedError::Files(error) => error.into(),
        FixedError::Read(error) => error.into(),
        refused @ (FixedError::NotFlat | FixedError::Method(_)) => {
            rejected(format!("output path '{}' {refused}", store_dir.display(&info.path)))
        }
    })?;
    let address = ContentAddress { method: stated.method, hash };
    let name = info.path.to_name();
    let path = store_dir.make_content_addressed_path(&name, &address, &info.split_references()).map_err(
        |error| rejected(format!("derivation '{}': {error}", store_dir.display(registration.path))),
    )?;
    info.content_address = Some(address);
    if hash == stated.hash {
        return Ok(output);
    }
    keep_mismatched(core, info.clone(), path, output).await?;
    Err(Failure::new(BuildStatus::HashMismatch, mismatch(core, registration, stated.hash, hash)))
}

fn mismatch(core: &Core, registration: &Registration<'_>, specified: Hash, got: Hash) -> String {
    format!(
        "hash mismatch in fixed-output derivation '{}':\n  specified: {}\n     got:    {}",
        core.store_dir().display(registration.path),
        specified.sri(),
        got.sri()
    )
}

/// Makes content valid under the path of the hash that it really has, unless it is valid there already.
async fn keep_mismatched(
    core: &Core,
    mut info: PathInfo,
    path: StorePath,
    output: Collected,
) -> Result<(), Failure> {
    core.store.add_temp_roots(vec![path.clone()]).await?;
    let mut locks = core.store.lock_paths(vec![path.clone()], |_| {}).await?;
    if !core.store.is_valid(&path).await? {
        delete_leftovers(&core.store, BTreeSet::from([path.clone()])).await?;
        info.path = path;
        core.sign(&mut info)?;
        let store = core.store.clone();
        blocking(move || {
            move_into_store(&store, &output.directory, &output.path, &info.path)?;
            Ok::<_, Failure>(store.register_blocking(vec![info])?)
        })
        .await?;
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
    for (info, check) in checked {
        let outputs = registration.output_paths;
        check_output(core.store_dir(), registration.derivation, outputs, info, check, &known)
            .map_err(|error| rejected(error.to_string()))?;
    }
    Ok(())
}

/// Moves the outputs to their places and registers them together. If that fails, nothing of them stays.
async fn publish(core: Arc<Core>, infos: Vec<PathInfo>, collected: Vec<Collected>) -> Result<(), Failure> {
    let paths: BTreeSet<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
    let store = core.store.clone();
    let published = blocking(move || {
        for output in collected {
            move_into_store(&store, &output.directory, &output.path, &output.path)?;
        }
        store.register_blocking(infos).map_err(|error| match error {
            kiln_store::Error::Database(cycle @ kiln_database::Error::Cycle { .. }) => {
                rejected(cycle.to_string())
            }
            error => error.into(),
        })
    })
    .await;
    if published.is_err() {
        delete_leftovers(&core.store, paths).await?;
    }
    published
}

/// Moves a tree from the directory that the builder made it in to its place in the store, if it isn't there already.
fn move_into_store(
    store: &LocalStore,
    from: &Directory,
    from_name: &StorePath,
    to_name: &StorePath,
) -> Result<(), Failure> {
    let to = store.directory();
    if from.path() == to.path() && from_name == to_name {
        return Ok(());
    }
    let (old, new) = (Component::new(from_name.base_name())?, Component::new(to_name.base_name())?);
    Ok(rename_new((from, &old), (to, &new))?)
}
