//! The engine's side of the launcher.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::log_terminal::{self, LogTerminal};
use crate::request::{self, LaunchHeader, Request};
use crate::role::CLEAR_USER_ARGUMENT;
use crate::status::{RawReceipt, Report, pair};
use crate::{Capabilities, LAUNCHER_ARGUMENT, LaunchPlan, SandboxError, StatusChannel};

/// A running launcher. Dropping it kills all its builders.
///
/// Its functions may be called from any thread, and don't wait for builds; [`Launcher::launch`] can wait for a moment
/// when many requests are queued.
#[derive(Debug)]
pub struct Launcher {
    program: PathBuf,
    control: Option<OwnedFd>,
    guardian: Child,
    /// For the next build.
    spare_terminal: Mutex<Option<LogTerminal>>,
}

/// A build that the launcher has been asked for.
#[derive(Debug)]
pub struct RunningBuilder {
    /// What happens to it. Dropping this kills the build.
    pub status: StatusChannel,
    /// What it prints, without waiting; the read error `EIO` is the end of file. That comes when the last process that
    /// has the terminal open is gone, which need not be when the builder is.
    pub log: OwnedFd,
}

impl Launcher {
    /// Starts this very program in the role of the launcher. Its `main` must begin with [`crate::run_if_launcher`].
    pub fn start() -> Result<Self, SandboxError> {
        Self::start_program(Path::new("/proc/self/exe"))
    }

    /// Starts another program in the role of the launcher, for embedders whose `main` is not theirs.
    pub fn start_program(program: &Path) -> Result<Self, SandboxError> {
        let cannot = |source| SandboxError::StartLauncher { program: program.to_owned(), source };
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|errno| cannot(errno.into()))?;
        let guardian = Command::new(program)
            .arg(LAUNCHER_ARGUMENT)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(cannot)?;
        let spare_terminal = Mutex::default();
        Ok(Self { program: program.to_owned(), control: Some(ours), guardian, spare_terminal })
    }

    /// Starts a build. That it was created, that its set-up failed, and how it ended is all told by its status channel.
    ///
    /// # Errors
    ///
    /// Only if the request could not be made at all.
    pub fn launch(&self, plan: &LaunchPlan) -> Result<RunningBuilder, SandboxError> {
        let (status, theirs) = pair().map_err(|errno| SandboxError::Send(errno.into()))?;
        let spare = self.spare_terminal().take();
        let terminal = spare.map_or_else(log_terminal::open, Ok).and_then(|terminal| {
            terminal.give_to(&plan.credentials)?;
            Ok(terminal)
        });
        let terminal = terminal.map_err(|errno| SandboxError::Terminal(errno.into()))?;
        let file = write_plan(plan).map_err(SandboxError::Send)?;
        let request = Request::Launch(LaunchHeader::of(plan));
        self.send(&request, &[theirs.as_fd(), file.as_fd(), terminal.builder.as_fd()])?;
        Ok(RunningBuilder { status, log: terminal.log })
    }

    /// Opens the terminal of the next build, so that this need not be done when it is launched. Whoever launches that is told
    /// why there is none.
    pub fn make_spare_terminal(&self) {
        let mut spare = self.spare_terminal();
        if spare.is_none() {
            *spare = log_terminal::open().ok();
        }
    }

    fn spare_terminal(&self) -> MutexGuard<'_, Option<LogTerminal>> {
        self.spare_terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills every process of a build user on this machine; for root only, and never those of root or its own user.
    ///
    /// Builds in a PID namespace leave none, so it is enough to do this when an engine takes a user for the first time:
    /// before that, another engine may have crashed, or worse. Blocks for some milliseconds.
    pub fn kill_processes_of(&self, uid: u32) -> Result<(), SandboxError> {
        let cannot = |source| SandboxError::KillProcesses { uid, source };
        let status = Command::new(&self.program)
            .args([CLEAR_USER_ARGUMENT, &uid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(cannot)?;
        if status.success() { Ok(()) } else { Err(cannot(std::io::Error::other(status.to_string()))) }
    }

    /// Tries out what this machine offers for isolation. Takes some milliseconds.
    pub fn probe(&self) -> Result<Capabilities, SandboxError> {
        let (status, theirs) = pair().map_err(|errno| SandboxError::Send(errno.into()))?;
        self.send(&Request::Probe, &[theirs.as_fd()])?;
        drop(theirs);
        status.wait(None)?;
        match status.receive_report()? {
            RawReceipt::Report(Report::Probed(capabilities), _) => Ok(capabilities),
            RawReceipt::Report(..) => Err(SandboxError::Report("no answer to a probe".to_owned())),
            RawReceipt::Nothing | RawReceipt::Closed => Err(SandboxError::LauncherGone),
        }
    }

    /// The PID of the process that watches over the launcher.
    pub fn guardian_pid(&self) -> u32 {
        self.guardian.id()
    }

    fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        let control = self.control.as_ref().ok_or(SandboxError::LauncherGone)?;
        request::send(control.as_fd(), request, descriptors).map_err(|errno| match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => SandboxError::LauncherGone,
            errno => SandboxError::Send(errno.into()),
        })
    }
}

/// The plan as JSON, in a file without a name.
fn write_plan(plan: &LaunchPlan) -> std::io::Result<OwnedFd> {
    let mut file = BufWriter::new(File::from(memfd_create("plan", MemfdFlags::CLOEXEC)?));
    serde_json::to_writer(&mut file, plan)?;
    file.flush()?;
    let file = OwnedFd::from(file.into_inner().map_err(std::io::IntoInnerError::into_error)?);
    seek(&file, SeekFrom::Start(0))?;
    Ok(file)
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // The end of the control socket is the sign to end; the guardian needs a moment to kill and collect.
        self.control = None;
        let _ = self.guardian.wait();
    }
}
