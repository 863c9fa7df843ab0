//! The processes between the launcher and `pasta`.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kiln_sys::process::{Cloned, Namespaces, clone_process, close_descriptors_but, execute, exit_now, reap};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, pidfd_send_signal, wait};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, configure_capability_in_ambient_set,
    move_into_link_name_space, set_capabilities, set_no_new_privs,
};

use super::super::event_loop::Surroundings;
use super::super::{die_with, pidfd_of_self};
use super::tap_device;
use crate::child::renounce_root;
use crate::request::{self, HelperHeader, Incoming, Request};
use crate::status::{Report, StatusSender};
use crate::{SetupError, SetupStage, pasta};

/// What is read of its complaints.
const LONGEST_COMPLAINT: u64 = 4 << 10;

/// What `pasta` may do in the user namespace of the build's network: enter it, set it up, and shut itself in.
const CAPABILITIES: [CapabilitySet; 3] =
    [CapabilitySet::SYS_ADMIN, CapabilitySet::NET_ADMIN, CapabilitySet::NET_BIND_SERVICE];

/// The keeper. `build` leads to the build's process, `end` says when the launcher wants it to end. The result is the exit
/// code: zero if it was wanted.
pub(super) fn run(
    header: &HelperHeader,
    build: BorrowedFd<'_>,
    end: BorrowedFd<'_>,
    surroundings: &Surroundings<'_>,
) -> u8 {
    let launcher = surroundings.launcher.as_fd();
    // Copies of other builds' descriptors would hide from the engine that the launcher has closed its own.
    if close_descriptors_but(&[build, end, launcher, surroundings.null]).is_err() {
        return 1;
    }
    match connect(header, build, end, launcher, surroundings) {
        Ok(None) => 0,
        Ok(Some(init)) => keep(&init, end),
        Err(error) => {
            tell(build, &Report::SetupFailed(error));
            // The build fails now, and says why. To end before it has would be to lose its network.
            while let Err(Errno::INTR) = poll(&mut [PollFd::from_borrowed_fd(end, PollFlags::IN)], None) {}
            0
        }
    }
}

/// Tells the build's process what came of it all.
fn tell(build: BorrowedFd<'_>, report: &Report) {
    if let Ok(build) = build.try_clone_to_owned() {
        StatusSender::new(build).send(report, None);
    }
}

fn failed(message: &'static str) -> impl Fn(Errno) -> SetupError {
    move |errno| SetupError::new(SetupStage::NetworkHelper, message, errno)
}

/// Waits for the build's namespaces, enters its user namespace, and starts the init of the helper's PID namespace. `None` if
/// there will be no build.
fn connect(
    header: &HelperHeader,
    build: BorrowedFd<'_>,
    end: BorrowedFd<'_>,
    launcher: BorrowedFd<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Cloned>, SetupError> {
    if surroundings.privileged {
        // Where that is not possible, the host's device may do.
        let _ = tap_device::open_up();
    }
    if let Some((uid, gid)) = header.owner {
        renounce_root(uid, gid)?;
    }
    set_no_new_privs(true).map_err(failed("cannot renounce new privileges"))?;
    die_with(launcher).map_err(failed("cannot bind the keeper to the launcher"))?;
    let Some((user, network)) = receive_namespaces(build, end)? else { return Ok(None) };
    move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
        .map_err(failed("cannot enter the user namespace of the build's network"))?;
    drop(user);
    let keeper = pidfd_of_self().map_err(|error| {
        failed("cannot watch the keeper")(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })?;
    let init = clone_process(Namespaces::PID, None, || {
        let helper = Helper { header, network: &network, build, null: surroundings.null };
        helper.run(keeper.as_fd())
    });
    init.map(Some).map_err(failed("cannot create the PID namespace of the network's helper"))
}

/// The namespaces that the build's process sends: that of users, and that of the network which belongs to it.
fn receive_namespaces(
    build: BorrowedFd<'_>,
    end: BorrowedFd<'_>,
) -> Result<Option<(OwnedFd, OwnedFd)>, SetupError> {
    if is_wanted_to_end(end, build) {
        return Ok(None);
    }
    match request::receive(build).map_err(failed("cannot receive the build's namespaces"))? {
        Incoming::Request(Request::Connect, descriptors) => match <[OwnedFd; 2]>::try_from(descriptors) {
            Ok([user, network]) => Ok(Some((user, network))),
            Err(_) => Err(SetupError::plain(SetupStage::NetworkHelper, "the build's namespaces are missing")),
        },
        // Its set-up has failed before.
        _ => Ok(None),
    }
}

/// Waits for the launcher's word, or for the helper's end.
fn keep(init: &Cloned, end: BorrowedFd<'_>) -> u8 {
    let wanted = is_wanted_to_end(end, init.pidfd.as_fd());
    // It may have ended already. With it all of its namespace ends.
    let _ = pidfd_send_signal(&init.pidfd, Signal::KILL);
    while let Err(Errno::INTR) = poll(&mut [PollFd::new(&init.pidfd, PollFlags::IN)], None) {}
    let _ = reap(Some(init.pid));
    u8::from(!wanted)
}

/// Waits until the launcher wants the keeper to end, or else for something about the other descriptor.
fn is_wanted_to_end(end: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let mut polled =
        [PollFd::from_borrowed_fd(end, PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
    while let Err(Errno::INTR) = poll(&mut polled, None) {}
    let [end, _] = &polled;
    !end.revents().is_empty()
}

/// What the init of the PID namespace works with.
struct Helper<'a> {
    header: &'a HelperHeader,
    network: &'a OwnedFd,
    build: BorrowedFd<'a>,
    null: BorrowedFd<'a>,
}

impl Helper<'_> {
    /// The init: tells the build's process what came of the start, and stays as long as anything runs.
    fn run(self, keeper: BorrowedFd<'_>) -> u8 {
        if let Err(error) = self.start(keeper) {
            tell(self.build, &Report::SetupFailed(error));
            // As the keeper does.
            loop {
                while let Err(Errno::INTR) = poll(&mut [], None) {}
            }
        }
        tell(self.build, &Report::Connected);
        // Until there is none left.
        while !matches!(wait(WaitOptions::empty()), Err(errno) if errno != Errno::INTR) {}
        1
    }

    /// Runs `pasta` until it goes into the background.
    fn start(&self, keeper: BorrowedFd<'_>) -> Result<(), SetupError> {
        die_with(keeper).map_err(failed("cannot bind the network's helper to its keeper"))?;
        keep_capabilities().map_err(failed("cannot keep the capabilities of the network's helper"))?;
        let program = &self.header.program;
        let (ours, theirs) =
            pipe_with(PipeFlags::CLOEXEC).map_err(failed("cannot make a pipe for the network's helper"))?;
        let process = clone_process(Namespaces::NONE, None, || self.execute(&theirs))
            .map_err(failed("cannot start the network's helper"))?;
        drop(theirs);
        let status = wait_for(process.pid).map_err(failed("cannot wait for the network's helper"))?;
        if status == Some(0) {
            return Ok(());
        }
        let mut output = Vec::new();
        let _ = File::from(ours).take(LONGEST_COMPLAINT).read_to_end(&mut output);
        let message = format!("'{program}' cannot connect the build's network: {}", pasta::reason(&output));
        Err(SetupError::plain(SetupStage::NetworkHelper, message))
    }

    /// Becomes `pasta`. Its standard input is the network namespace, its error output goes to the pipe.
    fn execute(&self, output: &OwnedFd) -> u8 {
        let streams =
            dup2_stdin(self.network).and_then(|()| dup2_stdout(self.null)).and_then(|()| dup2_stderr(output));
        let words: Option<Vec<CString>> =
            pasta::arguments().into_iter().map(|word| CString::new(word).ok()).collect();
        let (Ok(()), Some(words), Ok(program)) = (streams, words, self.header.program.to_c_string()) else {
            return 1;
        };
        let words: Vec<CString> = [program.clone()].into_iter().chain(words).collect();
        let errno = execute(&program, &words, &[]);
        eprintln!("{}", crate::status::describe(errno));
        exit_now(127)
    }
}

/// Lets the capabilities over the user namespace that was entered pass to the program that is executed next.
fn keep_capabilities() -> Result<(), Errno> {
    let wanted = CAPABILITIES.into_iter().fold(CapabilitySet::empty(), |all, one| all | one);
    set_capabilities(None, CapabilitySets { effective: wanted, permitted: wanted, inheritable: wanted })?;
    CAPABILITIES.into_iter().try_for_each(|capability| configure_capability_in_ambient_set(capability, true))
}

/// Waits until a child ends; its exit code, unless it was killed.
fn wait_for(child: Pid) -> Result<Option<i32>, Errno> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => return Ok(status.exit_status()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
