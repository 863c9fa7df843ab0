//! Who builds: an engine of this process, or a daemon.

use std::collections::{BTreeMap, HashMap};

use kiln_build::{BuildAnswer, BuildMode, BuildRequest, Engine, Missing, TargetResult};
use kiln_events::{BuildResult, BuildStatus, exit_status};
use kiln_protocol::value::{BuildMode as WireMode, RealisedBuildResult};
use kiln_remote::{Built, RemoteStore};
use kiln_store_path::{DerivedPath, OutputName, OutputsSpec, StorePath};

use crate::failure::Failure;

/// What makes things valid.
#[derive(Clone)]
pub(crate) enum Builder {
    /// An engine, which works on a local store.
    Engine(Engine),
    /// A daemon. What it does is told as it tells it.
    Daemon(RemoteStore),
}

impl Builder {
    /// What building would build and fetch.
    pub(crate) async fn query_missing(&self, targets: &[DerivedPath]) -> Result<Missing, Failure> {
        match self {
            Self::Engine(engine) => Ok(engine.query_missing(targets).await?),
            Self::Daemon(daemon) => {
                let missing = daemon.missing(targets).await?;
                Ok(Missing {
                    will_build: missing.will_build.into_iter().collect(),
                    will_substitute: missing.will_substitute.into_iter().collect(),
                    unknown: missing.unknown.into_iter().collect(),
                    download_size: missing.download_size,
                    nar_size: missing.nar_size,
                })
            }
        }
    }

    /// Makes the targets valid; what fails is in the answer. A daemon goes on after a failure if the settings of this run, which
    /// it was told, say so.
    pub(crate) async fn build(&self, request: BuildRequest) -> Result<BuildAnswer, Failure> {
        match self {
            Self::Engine(engine) => Ok(engine.build(request).await),
            Self::Daemon(daemon) => by_daemon(daemon, request).await,
        }
    }

    /// Waits until nothing is left of builds here.
    pub(crate) async fn idle(&self) {
        if let Self::Engine(engine) = self {
            engine.idle().await;
        }
    }
}

async fn by_daemon(daemon: &RemoteStore, request: BuildRequest) -> Result<BuildAnswer, Failure> {
    let mode = match request.mode {
        BuildMode::Check => WireMode::Check,
        BuildMode::Repair => WireMode::Repair,
        _ => WireMode::Normal,
    };
    let mut told: HashMap<DerivedPath, RealisedBuildResult> = HashMap::new();
    let built = daemon.build(request.targets.clone(), mode).await.map_err(|error| {
        let status = error.refusal().and_then(|refusal| u8::try_from(refusal.exit_status).ok());
        match status {
            // What daemons before 1.26 wish clients to end with.
            Some(status @ 1..) => Failure::from(error).with_exit_code(status),
            _ => Failure::from(error),
        }
    })?;
    let says_all = match built {
        Built::All => true,
        Built::Results(results) => {
            told.extend(results.into_iter().map(|result| (result.path, result.result)));
            false
        }
    };
    let mut results = Vec::new();
    for target in request.targets {
        let told = told.get(&target).cloned();
        let was_cancelled = told.is_none() && !says_all;
        let outputs = match &told {
            Some(told) if !told.status.is_success() => BTreeMap::new(),
            None if was_cancelled => BTreeMap::new(),
            told => outputs(daemon, &target, told.as_ref()).await?,
        };
        let result = match told {
            Some(told) => told.into_result(daemon.store_dir()),
            None if was_cancelled => {
                BuildResult::failure(BuildStatus::MiscFailure, "cancelled, because another target failed")
            }
            None => BuildResult::new(BuildStatus::Built),
        };
        // What it asked its substituters is not told by the protocol.
        let origins = BTreeMap::new();
        results.push(TargetResult { target, result, was_cancelled, outputs, origins });
    }
    let exit_status = exit_status(results.iter().map(|result| result.result.status));
    Ok(BuildAnswer { results, failures: Vec::new(), exit_status })
}

/// The wanted outputs of a target that is there: as the daemon has told them, or as it tells when it is asked.
async fn outputs(
    daemon: &RemoteStore,
    target: &DerivedPath,
    told: Option<&RealisedBuildResult>,
) -> Result<BTreeMap<OutputName, StorePath>, Failure> {
    let DerivedPath::Built { derivation, outputs } = target else { return Ok(BTreeMap::new()) };
    let mut found: BTreeMap<OutputName, StorePath> = BTreeMap::new();
    for realisation in told.into_iter().flat_map(|told| told.built_outputs.values()) {
        found.insert(realisation.id.output.clone(), realisation.output_path.clone());
    }
    let is_told = match outputs {
        OutputsSpec::Names(names) => names.iter().all(|name| found.contains_key(name)),
        OutputsSpec::All => !found.is_empty(),
    };
    if !is_told {
        let known = daemon.output_map(&derivation.path).await?;
        found = known.into_iter().filter_map(|(name, path)| Some((name, path?))).collect();
    }
    found.retain(|name, _| outputs.contains(name));
    Ok(found)
}
