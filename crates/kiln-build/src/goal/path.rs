//! The goal of a path whose contents are to be good (R4).

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_events::{BuildResult, BuildStatus};
use kiln_store_path::StorePath;
use kiln_substitute::Existing;

use super::contents::contents_are_good;
use super::outcome::{Outcome, OutcomeKind, SharedOutcome};
use crate::core::Core;
use crate::error::Failure;

/// Makes the contents of a path good: nothing is done if they are, else they are had from a substituter.
pub(crate) async fn repair_goal(core: &Core, path: &StorePath) -> SharedOutcome {
    match contents_are_good(core, path).await {
        Ok(true) => {
            let result = BuildResult::new(BuildStatus::AlreadyValid);
            return Arc::new(Outcome::success(result, BTreeMap::new()));
        }
        Ok(false) => {}
        Err(failure) => return Arc::new(Outcome::failure(OutcomeKind::Failed, failure.into_result())),
    }
    let goal = core.want_path(path, Existing::IsReplaced);
    let outcome = goal.result().await.unwrap_or_else(Outcome::lost);
    if outcome.kind == OutcomeKind::Success {
        core.contents.made(path);
        return outcome;
    }
    let mut message = format!("cannot repair path '{}'", core.store_dir().display(path));
    if outcome.kind != OutcomeKind::NoSubstituters {
        message = format!("{message}: {}", outcome.result.error_message.to_str_lossy());
    }
    Arc::new(Outcome::failure(outcome.kind, Failure::misc(message).into_result()))
}
