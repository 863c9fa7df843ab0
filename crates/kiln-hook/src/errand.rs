//! A build that was accepted: its inputs go to the machine, it is built there, and its outputs come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use kiln_cache::{CopyRequest, DaemonWriter, Destination, Source, copy};
use kiln_derivation::{BasicDerivation, Derivation, DerivationOutput};
use kiln_events::{BuildStatus, ErrorClass, ErrorReport, Verbosity};
use kiln_protocol::hook::Work;
use kiln_protocol::value::{BuildMode, DerivationToBuild, RealisedBuildResult, Trust};
use kiln_remote::{Built, RemoteStore};
use kiln_settings::LocalStoreUrl;
use kiln_store::waiting;
use kiln_store_path::{DerivedPath, OutputsSpec, StorePath};

use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::slots::Slots;

/// How long others may copy to a machine before this one does so beside them.
const UPLOADS: Duration = Duration::from_secs(15 * 60);

/// What a hook exits with when the build has failed (H3), where the status says no more.
const FAILED: u8 = 1;

/// A build on a machine.
pub(crate) struct Errand<'a> {
    pub(crate) hook: &'a Hook,
    /// The machine's name.
    pub(crate) machine: &'a str,
    /// Its store.
    pub(crate) remote: &'a RemoteStore,
    pub(crate) derivation: StorePath,
}

impl Errand<'_> {
    /// Does it; the answer is what to exit with.
    pub(crate) async fn run(&self, work: &Work, slots: &Slots) -> Result<u8> {
        let hook = self.hook;
        let inputs: BTreeSet<StorePath> =
            work.inputs.iter().map(|path| hook.path(path)).collect::<Result<_>>()?;
        let derivation = hook.store.read_derivation(&self.derivation).await?;
        self.send_inputs(&inputs, slots).await?;
        let result = match self.build(&derivation, inputs).await {
            Ok(result) => result,
            Err(error) => return Ok(self.failed(FAILED, &error.to_string())),
        };
        if !result.status.is_success() {
            return Ok(self.failed(exit_code(result.status), &result.error_message.to_str_lossy()));
        }
        self.fetch_outputs(&derivation, work, result).await?;
        Ok(0)
    }

    fn failed(&self, code: u8, reason: &str) -> u8 {
        let derivation = self.hook.store.print(&self.derivation);
        let text = format!("build of '{derivation}' on '{}' failed: {reason}", self.machine);
        self.hook.events.error(ErrorReport::new(ErrorClass::BuildFailure, text));
        if self.hook.options.keep_failed {
            let text =
                format!("the directory of a build that failed stays on '{}', if it is kept", self.machine);
            self.hook.events.warn(text);
        }
        code
    }

    async fn send_inputs(&self, inputs: &BTreeSet<StorePath>, slots: &Slots) -> Result<()> {
        let lock = slots.upload_lock(self.machine)?;
        let uploading = {
            let _activity = self.hook.telling("waiting for the upload lock to", self.machine);
            let locking = waiting(move || lock.lock().map(|()| lock));
            tokio::time::timeout(UPLOADS, locking).await
        };
        if uploading.is_err() {
            let text = format!("somebody is hogging the upload lock for '{}', continuing...", self.machine);
            self.hook.events.message(Verbosity::Error, text);
        }
        let _activity = self.hook.telling("copying dependencies to", self.machine);
        self.send(inputs.iter().cloned().collect()).await
    }

    /// Copies paths to the machine, with all that they refer to.
    async fn send(&self, paths: Vec<StorePath>) -> Result<()> {
        let hook = self.hook;
        let source = Source::of_store(hook.store.clone(), LocalStoreUrl::default(), &hook.surroundings);
        let destination = Destination::Daemon(DaemonWriter::new(self.remote.clone(), false));
        let request = CopyRequest { paths, recursive: true, ..CopyRequest::default() };
        let substitute = |lacking: Vec<StorePath>| {
            let remote = self.remote.clone();
            async move {
                // What it cannot get is copied.
                let _ = remote.valid_among(lacking.into_iter().collect(), true).await;
            }
            .boxed()
        };
        let substitute: Option<kiln_cache::Substitute<'_>> =
            if hook.substitutes { Some(&substitute) } else { None };
        copy(&source, &destination, &request, substitute, &hook.events).await?;
        Ok(())
    }

    async fn build(
        &self,
        derivation: &Derivation,
        inputs: BTreeSet<StorePath>,
    ) -> Result<RealisedBuildResult> {
        let is_known = derivation.known_output_paths().count() == derivation.outputs.len();
        let trust = self.remote.greeting().await?.trust;
        if trust == Trust::NotTrusted && is_known {
            return self.build_untrusted().await;
        }
        let mut basic = derivation.clone();
        // Those of derivations that were resolved are all there already.
        if !basic.input_derivations.is_empty() {
            basic.input_derivations.clear();
            basic.input_sources = inputs;
        }
        let derivation = BasicDerivation::new(basic)?;
        let wanted = DerivationToBuild { path: self.derivation.clone(), derivation };
        Ok(self.remote.build_derivation(wanted, self.hook.options.clone()).await?)
    }

    /// Who isn't trusted can only have built what the machine knows to be a derivation.
    async fn build_untrusted(&self) -> Result<RealisedBuildResult> {
        self.send(vec![self.derivation.clone()]).await?;
        let wanted =
            DerivedPath::Built { derivation: self.derivation.clone().into(), outputs: OutputsSpec::All };
        let result = match self.remote.build(vec![wanted], BuildMode::Normal).await? {
            Built::Results(results) => results.into_iter().next().map(|keyed| keyed.result),
            Built::All => None,
        };
        // One that tells of no result has failed or done it, and would have said the former.
        Ok(result.unwrap_or_else(|| {
            RealisedBuildResult::new(&kiln_events::BuildResult::new(BuildStatus::Built), [])
        }))
    }

    /// Copies back what is missing. What can be known of outputs is not the machine's to say: their paths, or that they follow
    /// from their content; of what they are outputs.
    async fn fetch_outputs(
        &self,
        derivation: &Arc<Derivation>,
        work: &Work,
        result: RealisedBuildResult,
    ) -> Result<()> {
        let hook = self.hook;
        let (mut locked, mut request) = (BTreeSet::new(), CopyRequest::default());
        let wanted = derivation.outputs.iter().filter(|(name, _)| work.outputs.contains(name.as_str()));
        for (name, output) in wanted {
            if let Some(path) = output.path() {
                if let DerivationOutput::Fixed { address, .. } = output {
                    request.contents.insert(path.clone(), Some(*address));
                }
                // The engine has, since it knew them.
                locked.insert(path.clone());
                request.paths.push(path.clone());
                continue;
            }
            let hash = hook.store.hash_modulo(&self.derivation, Arc::clone(derivation)).await?;
            let realised = result.built_outputs.get(&hash.realisation_id(name.clone()));
            let realised = realised.ok_or_else(|| Error::Output(name.to_string()))?;
            request.contents.insert(realised.output_path.clone(), None);
            request.paths.push(realised.output_path.clone());
            request.realisations.push(realised.clone());
        }
        let valid = hook.store.valid_among(request.paths.clone()).await?;
        request.paths.retain(|path| !valid.contains(path));
        let _activity = hook.telling("copying outputs from", self.machine);
        let source = Source::of_daemon(self.remote.clone(), &hook.surroundings);
        let destination = Destination::Store(hook.store.with_locked_elsewhere(locked));
        copy(&source, &destination, &request, None, &hook.events).await?;
        Ok(())
    }
}

/// What tells the engine how a build has failed.
fn exit_code(status: BuildStatus) -> u8 {
    match status {
        BuildStatus::PermanentFailure | BuildStatus::CachedFailure => 100,
        BuildStatus::TimedOut => 101,
        BuildStatus::HashMismatch => 102,
        BuildStatus::NotDeterministic | BuildStatus::RoundsDiffer => 104,
        _ => FAILED,
    }
}
