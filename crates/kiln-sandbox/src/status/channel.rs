//! The socket over which a build's messages come, one datagram each, with descriptors where they carry one.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
    socketpair,
};

use super::{Report, StatusMessage};
use crate::SandboxError;

/// No report is longer than this; the texts in them are cut to fit.
const LARGEST_REPORT: usize = 32 << 10;

/// The engine's end: readable when there is a message.
///
/// Dropping it kills the build: the launcher takes its end for the engine's loss of interest.
#[derive(Debug)]
pub struct StatusChannel {
    socket: OwnedFd,
}

/// What a look at the channel gave.
#[derive(Debug)]
pub enum Receipt {
    /// A message.
    Message(StatusMessage),
    /// Nothing yet.
    Nothing,
    /// The launcher has closed its end: after `Exited` or a `SetupFailed` without process this is the normal end,
    /// else the launcher is gone.
    Closed,
}

/// The launcher's end; a builder's set-up inherits it.
#[derive(Debug)]
pub(crate) struct StatusSender {
    socket: OwnedFd,
}

/// Makes both ends; the second is still a plain descriptor, since it has to travel.
pub(crate) fn pair() -> Result<(StatusChannel, OwnedFd), Errno> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((StatusChannel { socket: ours }, theirs))
}

impl StatusChannel {
    /// The next message, if it is there. Never waits.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Report`] for what is no message; the channel is then of no further use.
    pub fn receive(&self) -> Result<Receipt, SandboxError> {
        Ok(match self.receive_report()? {
            RawReceipt::Nothing => Receipt::Nothing,
            RawReceipt::Closed => Receipt::Closed,
            RawReceipt::Report(Report::Created, Some(process)) => {
                Receipt::Message(StatusMessage::Created { process })
            }
            RawReceipt::Report(Report::Started(isolation), mounts) => {
                Receipt::Message(StatusMessage::Started { isolation, mounts })
            }
            RawReceipt::Report(Report::SetupFailed(error), _) => {
                Receipt::Message(StatusMessage::SetupFailed(error))
            }
            RawReceipt::Report(Report::Exited(exit), _) => Receipt::Message(StatusMessage::Exited(exit)),
            RawReceipt::Report(Report::Created | Report::Connected | Report::Probed(_), _) => {
                return Err(SandboxError::Report("a message that does not belong to a build".to_owned()));
            }
        })
    }

    /// Waits until [`receive`](Self::receive) has something to say; `false` if it hasn't within `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, SandboxError> {
        let timeout = timeout
            .map(|timeout| Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        loop {
            match poll(&mut polled, timeout.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(SandboxError::Report(errno.to_string())),
            }
        }
    }

    /// Asks the launcher to kill the build with all its processes. `Exited` follows when they are gone.
    pub fn kill(&self) {
        // Saying nothing more is the request: a word that the launcher hasn't read when it closes its end would make
        // the kernel drop what it has said. If it is gone, so is the build.
        let _ = shutdown(&self.socket, Shutdown::Write);
    }

    pub(crate) fn receive_report(&self) -> Result<RawReceipt, SandboxError> {
        let mut buffer = vec![0; LARGEST_REPORT];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = loop {
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(RawReceipt::Nothing),
                Err(Errno::CONNRESET) => return Ok(RawReceipt::Closed),
                Err(errno) => return Err(SandboxError::Report(errno.to_string())),
                Ok(received) => break received,
            }
        };
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        if received.bytes == 0 {
            return Ok(RawReceipt::Closed);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(SandboxError::Report("a message that is too long".to_owned()));
        }
        let bytes = buffer.get(..received.bytes).unwrap_or_default();
        let report =
            serde_json::from_slice(bytes).map_err(|error| SandboxError::Report(error.to_string()))?;
        Ok(RawReceipt::Report(report, descriptor))
    }
}

/// As [`Receipt`], before it is known what the message belongs to.
pub(crate) enum RawReceipt {
    Report(Report, Option<OwnedFd>),
    Nothing,
    Closed,
}

impl AsFd for StatusChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl StatusSender {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends a report. That nobody listens any more is not an error: it shows at the launcher's end of the channel.
    pub(crate) fn send(&self, report: &Report, descriptor: Option<BorrowedFd<'_>>) {
        let Ok(bytes) = encode(report) else { return };
        let descriptors: &[BorrowedFd<'_>] = &Vec::from_iter(descriptor);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        while let Err(Errno::INTR) =
            sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
        {}
    }
}

impl AsFd for StatusSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn encode(report: &Report) -> serde_json::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(report)?;
    let Report::SetupFailed(error) = report else { return Ok(bytes) };
    if bytes.len() <= LARGEST_REPORT {
        return Ok(bytes);
    }
    let mut error = error.clone();
    error.message = error.message.chars().take(1000).collect();
    error.path = None;
    serde_json::to_vec(&Report::SetupFailed(error))
}
