//! Running a hook, and reading what it prints.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{ExitStatus, Stdio};

use kiln_events::LogLines;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::core::Core;

/// As much of a hook's output as is read at once.
const PIECE: usize = 16 << 10;

/// A hook of the user's, with our environment. Being given up, it is killed.
pub(super) fn command(core: &Core, program: &str) -> Command {
    let variables = core.environment.iter();
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(variables.map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value))))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What of a hook's output is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// All of it.
    All,
    /// What it prints; its errors go to where ours go.
    Output,
}

/// Runs a hook to its end, and tells what it prints line by line.
pub(super) async fn run(
    mut command: Command,
    read: Read,
    mut told: impl FnMut(&[u8]),
) -> std::io::Result<ExitStatus> {
    let (ours, theirs) = std::io::pipe()?;
    if read == Read::All {
        command.stderr(theirs.try_clone()?);
    }
    command.stdout(theirs);
    let mut child = command.spawn()?;
    // Its copies of our end of the pipe are the last ones then.
    drop(command);
    let mut output = tokio::net::unix::pipe::Receiver::from_owned_fd(ours.into())?;
    let mut lines = LogLines::new();
    let mut buffer = vec![0; PIECE];
    let ended = loop {
        tokio::select! {
            // What it leaves running in the background may hold the pipe open for ever.
            ended = child.wait() => break ended?,
            read = output.read(&mut buffer) => match read? {
                0 => break child.wait().await?,
                length => lines.push(buffer.get(..length).unwrap_or_default(), &mut told),
            },
        }
    };
    // What is there, without waiting for more; the runtime may not know of it yet.
    while let Ok(length @ 1..) = rustix::io::read(&output, &mut buffer) {
        lines.push(buffer.get(..length).unwrap_or_default(), &mut told);
    }
    lines.finish(&mut told);
    Ok(ended)
}
