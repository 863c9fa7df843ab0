//! The goal of a path that is wanted as it is: it is valid, or cannot be had.

use std::collections::BTreeMap;

use kiln_events::{BuildResult, BuildStatus};
use kiln_store_path::StorePath;

use super::outcome::{Outcome, OutcomeKind};
use crate::engine::Core;
use crate::error::Failure;

/// Makes a path valid. Nobody substitutes it, so that it must be valid already.
pub(crate) async fn path_goal(core: &Core, path: &StorePath) -> Outcome {
    match is_valid(core, path).await {
        Ok(true) => Outcome::success(BuildResult::new(BuildStatus::AlreadyValid), BTreeMap::new()),
        Ok(false) => {
            let path = core.store_dir().display(path);
            let message = format!("path '{path}' does not exist and cannot be created");
            let failure = Failure::new(BuildStatus::NoSubstituters, message);
            Outcome::failure(OutcomeKind::NoSubstituters, failure.into_result())
        }
        Err(failure) => Outcome::failure(OutcomeKind::Failed, failure.into_result()),
    }
}

async fn is_valid(core: &Core, path: &StorePath) -> Result<bool, Failure> {
    core.store.add_temp_roots(vec![path.clone()]).await?;
    Ok(core.store.is_valid(path).await?)
}
