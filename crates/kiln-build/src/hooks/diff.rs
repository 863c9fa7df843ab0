//! The diff hook.

use std::path::Path;

use kiln_events::Verbosity;
use kiln_sandbox::Credentials;

use super::run::{Read, command, run};
use crate::core::Core;

/// Two trees that should be the same.
pub(crate) struct Differing<'a> {
    pub(crate) old: &'a Path,
    pub(crate) new: &'a Path,
    /// The derivation, as a full path.
    pub(crate) derivation: &'a str,
    /// Where the builder's files are.
    pub(crate) build_directory: &'a Path,
    /// The build user: what the hook reads may be made to attack it.
    pub(crate) credentials: &'a Credentials,
}

/// Runs the diff hook, if it is wanted (D16). What it prints is told; that it fails is told, too, and changes nothing.
pub(crate) async fn diff_hook(core: &Core, differing: &Differing<'_>) {
    let Some(hook) = core.settings.diff_hook.as_ref().filter(|_| core.settings.run_diff_hook) else { return };
    let mut command = command(core, hook);
    command.args([differing.old, differing.new]).arg(differing.derivation).arg(differing.build_directory);
    command.current_dir("/");
    if let Credentials::BuildUser { uid, gid, .. } = differing.credentials {
        // Root's supplementary groups go with the user.
        command.uid(*uid).gid(*gid);
    }
    let reason =
        match run(command, Read::All, |line| core.events.message(Verbosity::Error, line.to_vec())).await {
            Ok(ended) if ended.success() => return,
            Ok(ended) => format!("diff-hook program '{hook}' {ended}"),
            Err(error) => format!("diff-hook program '{hook}' cannot be run: {error}"),
        };
    core.events.message(Verbosity::Error, format!("diff hook execution failed: {reason}"));
}
