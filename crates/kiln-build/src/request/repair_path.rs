//! Making the contents of one path good again (R4).

use futures_util::future::BoxFuture;
use kiln_events::{BuildResult, BuildStatus, ErrorClass, ErrorReport};
use kiln_store::{Repair, Verdict};
use kiln_store_path::{OutputsSpec, StorePath};

use super::answer::BuildMode;
use crate::core::Core;
use crate::engine::Engine;
use crate::error::Failure;
use crate::goal::{Outcome, OutcomeKind, repair_goal};

impl Engine {
    /// Makes the contents of a path what they were when it became valid: nothing is done if they are; otherwise they are had
    /// from a substituter, or if that can't be, the derivation that made the path is built again, if it is still there.
    ///
    /// Never an error: what fails is in the result. Dropping the future cancels the build.
    pub async fn repair_path(&self, path: &StorePath) -> BuildResult {
        let (core, _listener) = self.request();
        let _remembering = core.failures.remember();
        let _requested = core.profile.build_hook.request();
        if let Err(error) = core.store.add_temp_roots(vec![path.clone()]).await {
            return Failure::from(error).into_result();
        }
        let outcome = repair_goal(&core, path).await;
        if outcome.kind == OutcomeKind::Success {
            return outcome.result.clone();
        }
        let deriver = match core.store.path_info(path).await {
            Ok(info) => info.and_then(|info| info.deriver.clone()),
            Err(error) => return Failure::from(error).into_result(),
        };
        let Some(deriver) = deriver else { return outcome.result.clone() };
        match core.store.is_valid(&deriver).await {
            Err(error) => Failure::from(error).into_result(),
            Ok(false) => outcome.result.clone(),
            Ok(true) => {
                let goal = core.want_derivation(&deriver, OutputsSpec::All, BuildMode::Repair);
                let result = goal.result().await.unwrap_or_else(Outcome::lost).result.clone();
                if result.is_success() || !is_good(&core, path).await {
                    return result;
                }
                // A build that ends with a hash mismatch makes what it has left before again.
                BuildResult::new(BuildStatus::Built)
            }
        }
    }
}

/// Whether a path is what it was; not if that cannot be told.
async fn is_good(core: &Core, path: &StorePath) -> bool {
    matches!(core.store.verify_contents(path).await, Ok(Verdict::Good | Verdict::Recorded))
}

/// Repairs what a verification finds, and says what cannot be repaired.
impl Repair for Engine {
    fn repair<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, kiln_store::Result<bool>> {
        Box::pin(async move {
            let result = self.repair_path(path).await;
            if !result.is_success() {
                self.events().error(ErrorReport::new(ErrorClass::BuildFailure, result.error_message.clone()));
            }
            Ok(result.is_success())
        })
    }
}
