//! Builds for a client of the serve protocol.

use kiln_build::{BuildAnswer, BuildMode, BuildRequest, Engine};
use kiln_events::{BuildResult, Text};
use kiln_protocol::serve::request::{BuildDerivation, BuildOptions, BuildPaths};
use kiln_protocol::serve::response::BuiltPaths;
use kiln_protocol::value::{DerivationToBuild, RealisedBuildResult};
use kiln_settings::Settings;
use kiln_store_path::DerivedPath;

use super::{Serving, user};
use crate::error::ServeError;
use crate::session::building::{failure_message, realisations};

const NOT_ALLOWED: &str = "building paths is not allowed";

impl Serving {
    /// Makes paths valid. That something fails is an answer, with the exit status that clients end with.
    pub(super) async fn build_paths(&mut self, asked: BuildPaths) -> Result<BuiltPaths, ServeError> {
        let engine = self.engine(&asked.options)?;
        let request = BuildRequest { targets: asked.paths, mode: BuildMode::Normal, keep_going: false };
        let answer = self.while_there(engine.build(request)).await?;
        if answer.exit_status == 0 {
            return Ok(BuiltPaths::Success);
        }
        let message = self.failure_of(&answer);
        Ok(BuiltPaths::Failure { exit_status: answer.exit_status.into(), message })
    }

    /// Builds a derivation that is sent along.
    pub(super) async fn build_derivation(
        &mut self,
        asked: BuildDerivation,
    ) -> Result<RealisedBuildResult, ServeError> {
        let engine = self.engine(&asked.options)?;
        let DerivationToBuild { path, derivation } = asked.derivation;
        let result = self.while_there(engine.build_derivation(&path, derivation.clone())).await?;
        let realisations = match result.is_success() {
            true => realisations(&self.client.store, &path, derivation, &result).await?,
            false => Vec::new(),
        };
        let error_message = failure_message(&self.client.store, &DerivedPath::Opaque(path), &result);
        Ok(RealisedBuildResult::new(&BuildResult { error_message, ..result }, realisations))
    }

    /// The engine by what the client wants for one build. Nothing is substituted, and no log is kept: the client does both.
    fn engine(&self, options: &BuildOptions) -> Result<Engine, ServeError> {
        if options.repeats != 0 {
            return Err(ServeError::Repeats);
        }
        let writer = self.writer(NOT_ALLOWED)?;
        let settings = Settings {
            max_silent_time: options.max_silent_time,
            timeout: options.build_timeout,
            max_build_log_size: options.max_log_size,
            keep_failed: options.keep_failed,
            keep_build_log: false,
            substitute: false,
            ..writer.settings.clone()
        };
        Ok(writer.engine.with_settings(&settings, user())?)
    }

    /// Waits for a build for as long as the client is there. When it goes away, the build ends.
    async fn while_there<T>(&mut self, building: impl Future<Output = T>) -> Result<T, ServeError> {
        tokio::select! {
            biased;
            built = building => Ok(built),
            () = self.hang_up.wait() => Err(ServeError::HungUp),
        }
    }

    /// Why a request has failed: what failed first, and which targets did if there are several.
    fn failure_of(&self, answer: &BuildAnswer) -> Text {
        let mut failed = answer.results.iter().filter(|result| !result.result.is_success());
        let only = failed.next().filter(|_| failed.next().is_none());
        if let Some(only) = only {
            return failure_message(&self.client.store, &only.target, &only.result);
        }
        let paths = answer.results.iter().filter(|result| !result.result.is_success());
        let paths: Vec<String> = paths
            .map(|result| match &result.target {
                DerivedPath::Built { derivation, .. } => self.client.store.print(&derivation.path),
                DerivedPath::Opaque(path) => self.client.store.print(path),
            })
            .map(|path| format!("'{path}'"))
            .collect();
        format!("build of {} failed", paths.join(", ")).into()
    }
}
