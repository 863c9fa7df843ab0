//! The post-build hook.

use kiln_events::{Activity, ActivityId, ActivityResult, LogTail, Verbosity};
use kiln_store_path::StorePath;

use super::run::{Read, command, run};
use crate::core::Core;
use crate::error::Failure;

/// The last lines of it are kept up to these many bytes.
const TAIL_BYTES: usize = 64 << 10;

/// Runs the post-build hook, if there is one, with the derivation and all its outputs, which are valid (D18).
///
/// # Errors
/// It can't be run, or has failed. Being given up, it is killed.
pub(crate) async fn post_build_hook<'a>(
    core: &Core,
    derivation: &StorePath,
    outputs: impl IntoIterator<Item = &'a StorePath>,
) -> Result<(), Failure> {
    let Some(hook) = &core.settings.post_build_hook else { return Ok(()) };
    let derivation = core.store_dir().print(derivation);
    let outputs: Vec<String> = outputs.into_iter().map(|path| core.store_dir().print(path)).collect();
    let activity = core.events.start_with_text(
        ActivityId::NONE,
        Verbosity::Info,
        Activity::PostBuildHook { drv: derivation.as_str().into() },
        format!("running post-build-hook '{hook}'"),
    );
    let mut command = command(core, hook);
    command.env("DRV_PATH", &derivation).env("OUT_PATHS", outputs.join(" "));
    let failed =
        |reason: String| Failure::misc(format!("post-build-hook '{hook}' of '{derivation}' {reason}"));
    let mut tail = LogTail::new(usize::try_from(core.settings.log_lines).unwrap_or(usize::MAX), TAIL_BYTES);
    let ended = run(command, Read::All, |line| {
        tail.push(line);
        activity.result(ActivityResult::PostBuildLogLine(line.into()));
    });
    let ended = ended.await.map_err(|error| failed(format!("cannot be run: {error}")))?;
    if ended.success() {
        return Ok(());
    }
    let log_tail = tail.lines().cloned().collect();
    Err(Failure { log_tail, ..failed(format!("has failed: {ended}")) })
}
