//! Making things valid.

use kiln_build::{BuildAnswer, BuildMode, BuildRequest, TargetResult};
use kiln_derivation::{BasicDerivation, DerivationKind, DerivationOutput};
use kiln_events::{BuildResult, ErrorClass, ErrorReport, Text};
use kiln_narinfo::Realisation;
use kiln_protocol::value::{BuildMode as WireMode, DerivationToBuild, KeyedBuildResult, RealisedBuildResult};
use kiln_protocol::worker::request::{BuildDerivation, BuildPaths, BuildPathsWithResults};
use kiln_store::LocalStore;
use kiln_store_path::{DerivedPath, OutputName, StorePath};

use super::Session;
use super::failure::Failure;

/// The first version whose results have realisations.
const WITH_REALISATIONS: u8 = 28;

impl Session {
    /// Builds; a failure is the failure of the operation. If it is one alone, it is told as it is.
    pub(super) async fn build_paths(&self, request: BuildPaths) -> Result<(), Failure> {
        let answer = self.build(request.paths, request.mode).await?;
        let failed: Vec<&TargetResult> =
            answer.results.iter().filter(|result| !result.result.is_success()).collect();
        let (only, others) = match *failed.as_slice() {
            [] => return Ok(()),
            [only] => (Some(only), &[][..]),
            _ => (None, failed.as_slice()),
        };
        self.tell_failures_below(&answer);
        for failed in others.iter().filter(|failed| !failed.was_cancelled) {
            self.tell(&failed.target, &failed.result);
        }
        let message = match only {
            Some(only) => self.message(&only.target, &only.result),
            None => {
                let paths: Vec<String> =
                    failed.iter().map(|failed| format!("'{}'", self.name(&failed.target))).collect();
                format!("build of {} failed", paths.join(", ")).into()
            }
        };
        Err(Failure::of_text(message, answer.exit_status))
    }

    /// Builds; failures are results, which the client tells of itself. What was never begun because of them is left out, as
    /// newer Nix does.
    pub(super) async fn build_paths_with_results(
        &self,
        request: BuildPathsWithResults,
    ) -> Result<Vec<KeyedBuildResult>, Failure> {
        let answer = self.build(request.paths, request.mode).await?;
        self.tell_failures_below(&answer);
        let mut results = Vec::with_capacity(answer.results.len());
        for result in answer.results.into_iter().filter(|result| !result.was_cancelled) {
            let path = result.target.clone();
            results.push(KeyedBuildResult { path, result: self.realised_target(result).await? });
        }
        Ok(results)
    }

    /// Builds a derivation that is sent along. Whoever is not trusted may only have those built whose outputs tell by their
    /// content what they are: it could give any other path any content.
    pub(super) async fn build_derivation(
        &self,
        request: BuildDerivation,
    ) -> Result<RealisedBuildResult, Failure> {
        let DerivationToBuild { mut path, derivation } = request.derivation;
        let is_content_addressed = matches!(
            derivation.kind(),
            Ok(DerivationKind::Fixed | DerivationKind::Floating | DerivationKind::Impure)
        );
        if !is_content_addressed {
            self.require_trust("you are not privileged to build input-addressed derivations")?;
        }
        if !self.is_trusted() {
            path = self.add_derivation(&path, &derivation).await?;
        }
        if self.mode(request.mode)? != BuildMode::Normal {
            return Err(Failure::new("a derivation that is not in the store can be built, but not checked"));
        }
        let result = self.engine.build_derivation(&path, derivation.clone()).await;
        let realisations = match result.is_success() && self.has_realisations() {
            true => realisations(self.store(), &path, derivation, &result).await?,
            false => Vec::new(),
        };
        Ok(RealisedBuildResult::new(&self.with_message(&DerivedPath::Opaque(path), result), realisations))
    }

    pub(super) async fn ensure_path(&self, path: StorePath) -> Result<(), Failure> {
        let paths = vec![DerivedPath::Opaque(path)];
        self.build_paths(BuildPaths { paths, mode: WireMode::Normal }).await
    }

    async fn build(&self, targets: Vec<DerivedPath>, mode: WireMode) -> Result<BuildAnswer, Failure> {
        let request = BuildRequest { targets, mode: self.mode(mode)?, keep_going: self.settings.keep_going };
        Ok(self.engine.build(request).await)
    }

    fn mode(&self, mode: WireMode) -> Result<BuildMode, Failure> {
        match mode {
            WireMode::Normal => Ok(BuildMode::Normal),
            WireMode::Check => Ok(BuildMode::Check),
            WireMode::Repair => {
                self.require_trust("repairing is not allowed because you are not in 'trusted-users'")?;
                Ok(BuildMode::Repair)
            }
        }
    }

    /// Adds the derivation to the store, so that it has the name that follows from it, and its outputs are what they should.
    async fn add_derivation(
        &self,
        path: &StorePath,
        derivation: &BasicDerivation,
    ) -> Result<StorePath, Failure> {
        let text = derivation.to_aterm(self.store().store_dir())?;
        let info = self.store().add_text(&path.to_name(), text, derivation.references()).await?;
        Ok(info.path.clone())
    }

    /// Tells of what failed and was no target itself: causes first.
    fn tell_failures_below(&self, answer: &BuildAnswer) {
        let is_target = |path: &StorePath| {
            answer.results.iter().any(|result| match &result.target {
                DerivedPath::Built { derivation, .. } => derivation.path == *path,
                DerivedPath::Opaque(target) => target == path,
            })
        };
        for failed in answer.failures.iter().filter(|failed| !is_target(&failed.derivation)) {
            self.tell(&DerivedPath::Opaque(failed.derivation.clone()), &failed.result);
        }
    }

    fn tell(&self, target: &DerivedPath, result: &BuildResult) {
        self.events.error(ErrorReport::new(ErrorClass::BuildFailure, self.message(target, result)));
    }

    fn message(&self, target: &DerivedPath, result: &BuildResult) -> Text {
        failure_message(self.store(), target, result)
    }

    fn with_message(&self, target: &DerivedPath, result: BuildResult) -> BuildResult {
        BuildResult { error_message: self.message(target, &result), ..result }
    }

    fn name(&self, target: &DerivedPath) -> String {
        name(self.store(), target)
    }

    fn has_realisations(&self) -> bool {
        self.dialect.version.minor >= WITH_REALISATIONS
    }

    /// The result of a target, with the realisations of its outputs. Where content-addressed derivations are built, real
    /// clients ask for realisations of all others too, and end themselves if there are none: they are remembered.
    async fn realised_target(&self, target: TargetResult) -> Result<RealisedBuildResult, Failure> {
        let mut realisations = Vec::new();
        if let DerivedPath::Built { derivation, .. } = &target.target
            && target.result.is_success()
            && self.has_realisations()
        {
            let parsed = self.store().read_derivation(&derivation.path).await?;
            let hash = self.store().hash_modulo(&derivation.path, parsed).await?;
            // Those that were wanted.
            let outputs = target.outputs.iter();
            realisations.extend(
                outputs.map(|(name, path)| Realisation::new(hash.realisation_id(name.clone()), path.clone())),
            );
        }
        if self.store().config().realisations {
            for realisation in &realisations {
                if self.store().realisation(&realisation.id).await?.is_none() {
                    self.store().register_realisation(realisation.clone()).await?;
                }
            }
        }
        Ok(RealisedBuildResult::new(&self.with_message(&target.target, target.result), realisations))
    }
}

/// The message of a failure, with the last lines of the log if there are any.
pub(super) fn failure_message(store: &LocalStore, target: &DerivedPath, result: &BuildResult) -> Text {
    if result.log_tail.is_empty() {
        return result.error_message.clone();
    }
    let mut message = result.error_message.as_bytes().to_vec();
    message.extend_from_slice(format!(";\nlast {} log lines:", result.log_tail.len()).as_bytes());
    for line in &result.log_tail {
        message.extend_from_slice(b"\n> ");
        message.extend_from_slice(line.as_bytes());
    }
    message.extend_from_slice(format!("\nFor full logs, run 'nix log {}'.", name(store, target)).as_bytes());
    message.into()
}

/// What the outputs of a derivation that was built are: their paths are stated, or came of the build.
pub(super) async fn realisations(
    store: &LocalStore,
    path: &StorePath,
    derivation: BasicDerivation,
    result: &BuildResult,
) -> kiln_store::Result<Vec<Realisation>> {
    let built =
        |name: &OutputName| result.built_outputs.get(name.as_str()).map(|path| store.store_dir().parse(path));
    let stated = |output: &DerivationOutput| output.path().cloned();
    let outputs: Vec<(OutputName, StorePath)> = derivation
        .outputs
        .iter()
        .filter_map(|(name, output)| Some((name.clone(), stated(output).or_else(|| built(name)?.ok())?)))
        .collect();
    let hash = store.hash_modulo(path, derivation.into_derivation().into()).await?;
    let realisation = |(name, path)| Realisation::new(hash.realisation_id(name), path);
    Ok(outputs.into_iter().map(realisation).collect())
}

fn name(store: &LocalStore, target: &DerivedPath) -> String {
    match target {
        DerivedPath::Built { derivation, .. } => store.print(&derivation.path),
        DerivedPath::Opaque(path) => store.print(path),
    }
}
