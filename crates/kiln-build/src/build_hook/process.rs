//! The hook's process, with its pipes: a process group, killed and collected however it is given up.

use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};

use kiln_events::LogLines;
use kiln_sandbox::ExitStatus;
use kiln_sys::process::{SpawnPlan, spawn_process_group};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, waitpid,
};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

use super::program::Command;
use crate::execute::watched;

/// As much of a pipe as is read at once.
const READ: usize = 64 << 10;

/// How often a pipe is read after the hook's end; once is enough for what a pipe holds.
pub(super) const REST_READS: usize = 16;

/// The longest line of the hook. A record may hold a line of a log, of which each byte may take six.
const MAX_LINE: usize = 512 << 10;

/// How long a killed process is waited for where nothing else can be done meanwhile.
const MOMENT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A hook that runs.
#[derive(Debug)]
pub(super) struct HookProcess {
    /// Where it is told things; closed when there is no more to say.
    pub(super) input: Option<pipe::Sender>,
    /// What it says itself.
    pub(super) messages: Messages,
    /// What builders print. The hook may read this too until it accepts a build, so that nobody reads it here before.
    pub(super) log: OwnedFd,
    pub(super) child: HookChild,
}

impl HookProcess {
    /// Starts it. Blocks for a moment; must be called within the runtime.
    pub(super) fn start(command: &Command) -> io::Result<Self> {
        let (their_input, input) = io::pipe()?;
        let (messages, their_messages) = io::pipe()?;
        let (log, their_log) = io::pipe()?;
        let descriptors = [
            (their_input.as_fd(), 0),
            (their_messages.as_fd(), 1),
            (their_messages.as_fd(), 2),
            (their_log.as_fd(), 4),
            (log.as_fd(), 5),
        ];
        let pid = spawn_process_group(&SpawnPlan {
            program: &command.program,
            arguments: &command.arguments,
            environment: &command.environment,
            directory: c"/",
            descriptors: &descriptors,
        })?;
        let child = HookChild::new(pid)?;
        Ok(Self {
            input: Some(pipe::Sender::from_owned_fd(input.into())?),
            messages: Messages::new(messages)?,
            log: log.into(),
            child,
        })
    }
}

/// The lines that the hook writes.
#[derive(Debug)]
pub(super) struct Messages {
    pipe: pipe::Receiver,
    lines: LogLines,
    /// Lines that were read and not yet taken.
    ready: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    is_over: bool,
    /// How many more bytes are read.
    budget: u64,
}

impl Messages {
    fn new(pipe: PipeReader) -> io::Result<Self> {
        Ok(Self {
            pipe: pipe::Receiver::from_owned_fd(pipe.into())?,
            lines: LogLines::with_max_length(MAX_LINE),
            ready: VecDeque::new(),
            buffer: vec![0; READ],
            is_over: false,
            budget: u64::MAX,
        })
    }

    /// Sets how many bytes are read from now on; what would be more is an end of all lines.
    pub(super) fn set_budget(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    /// Whether the lines have ended because there were too many.
    pub(super) fn is_too_much(&self) -> bool {
        self.budget == 0
    }

    /// The next line, without its end; `None` when there will be no more. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            let read = self.pipe.read(&mut self.buffer).await;
            self.take(read.unwrap_or(0));
        }
    }

    /// The lines that are there after the hook's end. What others write who have its pipe open is not waited for, nor read
    /// for ever.
    pub(super) fn rest(&mut self) -> VecDeque<Vec<u8>> {
        for _ in 0..REST_READS {
            let length = rustix::io::read(&self.pipe, &mut self.buffer).unwrap_or(0);
            if length == 0 || self.is_over {
                break;
            }
            self.take(length);
        }
        self.take(0);
        std::mem::take(&mut self.ready)
    }

    fn take(&mut self, length: usize) {
        self.budget = self.budget.saturating_sub(length as u64);
        let length = if self.budget == 0 { 0 } else { length };
        let ready = &mut self.ready;
        let mut keep = |line: &[u8]| ready.push_back(line.to_vec());
        if length == 0 {
            self.is_over = true;
            std::mem::take(&mut self.lines).finish(keep);
        } else {
            self.lines.push(self.buffer.get(..length).unwrap_or_default(), &mut keep);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over && self.ready.is_empty()
    }
}

/// The leader of a process group. Dropping this kills all of it.
#[derive(Debug)]
pub(super) struct HookChild {
    pid: Pid,
    /// Taken away when the process is collected: from then on its number may be another's.
    pidfd: Option<AsyncFd<OwnedFd>>,
    ended: Option<ExitStatus>,
}

impl HookChild {
    fn new(pid: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).and_then(watched);
        match pidfd {
            Ok(pidfd) => Ok(Self { pid, pidfd: Some(pidfd), ended: None }),
            Err(error) => {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::empty());
                Err(error)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills the group. The process stays until it is waited for.
    pub(super) fn kill(&self) {
        if self.pidfd.is_some() {
            // It may be dead already.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Waits until the process ends, kills what is left of its group, and collects it; how it ended, if that is known.
    pub(super) async fn wait(&mut self) -> Option<ExitStatus> {
        if let Some(pidfd) = &self.pidfd {
            // That fails only if the runtime ends.
            let _ = pidfd.readable().await;
            self.kill();
            self.pidfd = None;
            let waited = waitpid(Some(self.pid), WaitOptions::empty()).ok().flatten();
            self.ended = waited.and_then(|(_, status)| exit_status(status));
        }
        self.ended
    }
}

impl Drop for HookChild {
    fn drop(&mut self) {
        self.kill();
        let Some(pidfd) = self.pidfd.take() else { return };
        let pid = self.pid;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                let _ = pidfd.readable().await;
                collect(pid);
            })),
            Err(_) => {
                let _ = poll(&mut [PollFd::new(pidfd.get_ref(), PollFlags::IN)], Some(&MOMENT));
                collect(pid);
            }
        }
    }
}

/// Collects a process that has ended, or is about to.
fn collect(pid: Pid) {
    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let code = status.exit_status().map(ExitStatus::Code);
    code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}

/// How a process ended, in words.
pub(super) fn describe(status: Option<ExitStatus>) -> String {
    match status {
        Some(ExitStatus::Code(code)) => format!("it has ended with exit code {code}"),
        Some(ExitStatus::Signal(signal)) => format!("it was killed by signal {signal}"),
        None => "it has ended".to_owned(),
    }
}
