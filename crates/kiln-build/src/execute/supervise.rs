//! Watching one builder: its log, its limits, its end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use kiln_fs::{FailPoint, fail_point};
use kiln_sandbox::{BuilderExit, Isolation, Receipt, SandboxError, SetupError, StatusChannel, StatusMessage};
use kiln_schedule::{Exceeded, Limits, Watchdog};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::log::BuilderLog;

/// As much of the log as is read at once.
const LOG_READ: usize = 64 << 10;

/// How a builder ended, and what stopped it if something did.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) exit: BuilderExit,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) exceeded: Option<Exceeded>,
}

/// Why no builder ran, or nobody knows how it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperviseError {
    #[error(transparent)]
    Setup(SetupError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("cannot watch the builder: {0}")]
    Watch(#[from] io::Error),
}

/// A builder that was launched: dropping it before [`Supervisor::run`] has ended means to give up the build.
#[derive(Debug)]
pub(crate) struct Supervisor {
    status: AsyncFd<Polled>,
    log: Option<AsyncFd<OwnedFd>>,
    watchdog: Watchdog,
    started: Instant,
    isolation: Option<Isolation>,
    exceeded: Option<Exceeded>,
    /// The builder's mount namespace.
    mounts: Option<OwnedFd>,
    /// Nothing of the build is left: it ended, or there never was a process.
    over: bool,
}

impl Supervisor {
    pub(crate) fn new(status: StatusChannel, log: OwnedFd, limits: Limits) -> io::Result<Self> {
        Ok(Self {
            status: watched(Polled(status))?,
            log: Some(watched(log)?),
            watchdog: Watchdog::new(limits),
            started: Instant::now(),
            isolation: None,
            exceeded: None,
            mounts: None,
            over: false,
        })
    }

    /// Waits for the builder's end and hands out its log as it comes.
    ///
    /// The end is the exit of the builder, which the launcher reports when every process of the build is gone. What is
    /// in the log by then is read; a log that is closed earlier is not the end.
    pub(crate) async fn run(&mut self, log: &mut BuilderLog) -> Result<Execution, SuperviseError> {
        let mut buffer = vec![0; LOG_READ];
        let exit = loop {
            let deadline = self.check_time();
            let room = log.room();
            tokio::select! {
                received = receive(&self.status) => {
                    if let Some(exit) = self.take(received?)? {
                        break exit;
                    }
                }
                read = read_log(room, self.log.as_ref(), &mut buffer) => self.take_log(&buffer, read, log),
                () = sleep_until(deadline) => {}
            }
        };
        self.drain_log(&mut buffer, log);
        fail_point(FailPoint::BuilderEnded);
        Ok(Execution { exit, isolation: self.isolation.take(), exceeded: self.exceeded })
    }

    /// Kills what still runs, and waits until it is gone. Does nothing after the end.
    pub(crate) async fn abandon(&mut self) {
        while !self.over {
            self.status.get_ref().0.kill();
            match receive(&self.status).await {
                Ok(message) => {
                    let _ = self.take(message);
                }
                // The launcher is gone, and takes its builders with it.
                Err(_) => self.over = true,
            }
        }
    }

    fn take(&mut self, message: StatusMessage) -> Result<Option<BuilderExit>, SuperviseError> {
        match message {
            StatusMessage::Created { .. } => Ok(None),
            StatusMessage::Started { isolation, mounts } => {
                fail_point(FailPoint::BuilderStarted);
                self.isolation = Some(isolation);
                self.mounts = mounts;
                self.started = Instant::now();
                Ok(None)
            }
            StatusMessage::SetupFailed(error) => Err(SuperviseError::Setup(error)),
            StatusMessage::Exited(exit) => {
                self.over = true;
                // That takes milliseconds, and nobody needs to wait for it.
                let mounts = self.mounts.take();
                drop(tokio::task::spawn_blocking(move || drop(mounts)));
                Ok(Some(exit))
            }
        }
    }

    /// Kills a builder whose time is over; says when to look again.
    fn check_time(&mut self) -> Option<Instant> {
        if self.exceeded.is_some() {
            return None;
        }
        match self.watchdog.check(self.started.elapsed()) {
            Ok(next) => next.map(|next| self.started + next),
            Err(exceeded) => {
                self.stop(exceeded);
                None
            }
        }
    }

    fn stop(&mut self, exceeded: Exceeded) {
        self.exceeded.get_or_insert(exceeded);
        self.status.get_ref().0.kill();
    }

    fn take_log(&mut self, buffer: &[u8], read: io::Result<usize>, log: &mut BuilderLog) {
        match read {
            // A pseudo-terminal ends with EIO when nobody has its other end open.
            Ok(0) | Err(_) => self.log = None,
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                if let Err(exceeded) = self.watchdog.output(length as u64, self.started.elapsed())
                    && self.exceeded.is_none()
                {
                    self.stop(exceeded);
                }
                log.write(bytes);
            }
        }
    }

    /// Reads what is there without waiting for more: whoever wrote it is dead.
    fn drain_log(&mut self, buffer: &mut [u8], log: &mut BuilderLog) {
        while let Some(fd) = &self.log {
            match rustix::io::read(fd.get_ref(), &mut *buffer) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(length) if length > 0 => {
                    self.take_log(buffer, Ok(length), log);
                }
                _ => self.log = None,
            }
        }
    }
}

/// A status channel as the runtime wants it.
#[derive(Debug)]
struct Polled(StatusChannel);

impl AsRawFd for Polled {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A descriptor that is waited for until it can be read, or has something to tell.
#[expect(deprecated, reason = "sound here: all these types own their descriptor and never change it")]
pub(crate) fn watched<T: AsRawFd>(descriptor: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

async fn receive(status: &AsyncFd<Polled>) -> Result<StatusMessage, SandboxError> {
    loop {
        let mut ready = status.readable().await.map_err(|_| SandboxError::LauncherGone)?;
        match ready.get_inner().0.receive()? {
            Receipt::Message(message) => return Ok(message),
            Receipt::Nothing => ready.clear_ready(),
            Receipt::Closed => return Err(SandboxError::LauncherGone),
        }
    }
}

async fn read_log(
    room: impl Future<Output = ()>,
    log: Option<&AsyncFd<OwnedFd>>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let Some(log) = log else { return std::future::pending().await };
    room.await;
    loop {
        let mut ready = log.readable().await?;
        let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?));
        match read {
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(read) => return read,
            Err(_would_block) => {}
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
