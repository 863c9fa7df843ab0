//! The pseudo-terminal that is a builder's standard output and error.

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::Credentials;

/// Both ends of a terminal.
#[derive(Debug)]
pub(crate) struct LogTerminal {
    /// The engine's end, from which the log is read without waiting; `EIO` is its end of file.
    pub(crate) log: OwnedFd,
    /// The builder's end.
    pub(crate) builder: OwnedFd,
}

/// Opens a terminal in raw mode that only its owner can open again. It is nobody's controlling terminal.
pub(crate) fn open() -> Result<LogTerminal, Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let log = openpt(flags)?;
    unlockpt(&log)?;
    let builder = ioctl_tiocgptpeer(&log, flags)?;
    let mut settings = tcgetattr(&builder)?;
    settings.make_raw();
    tcsetattr(&builder, OptionalActions::Now, &settings)?;
    fchmod(&builder, Mode::RUSR | Mode::WUSR)?;
    fcntl_setfl(&log, fcntl_getfl(&log)? | OFlags::NONBLOCK)?;
    Ok(LogTerminal { log, builder })
}

impl LogTerminal {
    /// Makes it the builder's user's.
    pub(crate) fn give_to(&self, credentials: &Credentials) -> Result<(), Errno> {
        match credentials {
            Credentials::BuildUser { uid, .. } => {
                fchown(&self.builder, Some(Uid::from_raw(*uid)), Some(Gid::ROOT))
            }
            Credentials::Caller => Ok(()),
        }
    }
}
