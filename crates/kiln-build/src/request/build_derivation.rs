//! Building one derivation that is given by value (R2).

use std::sync::Arc;

use kiln_derivation::BasicDerivation;
use kiln_events::BuildResult;
use kiln_store_path::{OutputsSpec, StorePath};

use super::answer::BuildMode;
use crate::engine::Engine;
use crate::goal::{DerivationGoal, derivation_goal};

impl Engine {
    /// Makes all outputs of a derivation valid that need not be in the store itself; its inputs must be valid. `path` is
    /// what it is called in messages, logs and as the deriver: whoever calls this sees to it that the derivation has the
    /// right to that name. (Worker protocol: BuildDerivation.)
    ///
    /// Never an error: what fails is in the result. Dropping the future cancels the build.
    pub async fn build_derivation(&self, path: &StorePath, derivation: BasicDerivation) -> BuildResult {
        // Not shared with who wants the derivation of that path from the store: it may be another one. If both are under way,
        // the locks on the outputs keep them apart.
        let (core, _listener) = self.request();
        let goal = Arc::new(DerivationGoal::new(OutputsSpec::All, &core));
        let discovering = core.discovery.begin();
        let (mode, given) = (BuildMode::Normal, Some(derivation));
        let way = derivation_goal(Arc::clone(&core), path.clone(), given, mode, goal, discovering);
        core.with_space(way).await.result.clone()
    }
}
