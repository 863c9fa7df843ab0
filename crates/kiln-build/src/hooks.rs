//! Programs of the user that are run in the course of a build.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{ExitStatus, Stdio};

use kiln_events::{Activity, ActivityGuard, ActivityId, ActivityResult, LogLines, LogTail, Verbosity};
use kiln_store_path::StorePath;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::engine::Core;
use crate::error::Failure;

/// As much of a hook's output as is read at once.
const READ: usize = 16 << 10;

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
    let variables = core.environment.iter();
    let mut command = Command::new(hook);
    command
        .env_clear()
        .envs(variables.map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value))))
        .env("DRV_PATH", &derivation)
        .env("OUT_PATHS", outputs.join(" "))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let failed =
        |reason: String| Failure::misc(format!("post-build-hook '{hook}' of '{derivation}' {reason}"));
    let tail = LogTail::new(usize::try_from(core.settings.log_lines).unwrap_or(usize::MAX), TAIL_BYTES);
    let mut printed = Printed { activity, tail };
    let ended =
        run(command, &mut printed).await.map_err(|error| failed(format!("cannot be run: {error}")))?;
    if ended.success() {
        return Ok(());
    }
    let log_tail = printed.tail.lines().cloned().collect();
    Err(Failure { log_tail, ..failed(format!("has failed: {ended}")) })
}

/// Where the lines go that a hook prints.
struct Printed {
    activity: ActivityGuard,
    tail: LogTail,
}

impl Printed {
    fn line(&mut self, line: &[u8]) {
        self.tail.push(line);
        self.activity.result(ActivityResult::PostBuildLogLine(line.into()));
    }
}

/// Runs a hook to its end, and tells what it prints line by line.
async fn run(mut command: Command, printed: &mut Printed) -> std::io::Result<ExitStatus> {
    let (ours, theirs) = std::io::pipe()?;
    command.stdout(theirs.try_clone()?).stderr(theirs);
    let mut child = command.spawn()?;
    // Its copies of our end of the pipe are the last ones then.
    drop(command);
    let mut output = tokio::net::unix::pipe::Receiver::from_owned_fd(ours.into())?;
    let mut lines = LogLines::new();
    let mut buffer = vec![0; READ];
    let ended = loop {
        tokio::select! {
            // What it leaves running in the background may hold the pipe open for ever.
            ended = child.wait() => break ended?,
            read = output.read(&mut buffer) => match read? {
                0 => break child.wait().await?,
                length => lines.push(buffer.get(..length).unwrap_or_default(), |line| printed.line(line)),
            },
        }
    };
    // What is there, without waiting for more; the runtime may not know of it yet.
    while let Ok(length @ 1..) = rustix::io::read(&output, &mut buffer) {
        lines.push(buffer.get(..length).unwrap_or_default(), |line| printed.line(line));
    }
    lines.finish(|line| printed.line(line));
    Ok(ended)
}
