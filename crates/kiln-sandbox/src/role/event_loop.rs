//! The launcher proper: one thread that waits for requests, for processes to end, and for the engine to lose interest.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kiln_sys::process::{Namespaces, exit_now};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getpid, getrlimit, set_child_subreaper, setrlimit};

use super::build::{Build, Launching};
use super::private_network::PrivateNetworks;
use super::spare::Spare;
use super::{RunBuiltin, has_privileges, namespaces, pidfd_of_self, probe};
use crate::child::{Child, OwnIds};
use crate::mounts::GroundworkPlan;
use crate::request::{self, Incoming, Request};
use crate::seccomp::Filters;
use crate::status::{Report, StatusSender};
use crate::{SetupError, SetupStage};

/// What the builds have in common.
pub(super) struct Surroundings<'a> {
    pub(super) null: BorrowedFd<'a>,
    /// This process.
    pub(super) launcher: OwnedFd,
    pub(super) filters: Filters,
    pub(super) ids: OwnIds,
    /// The limit of open files that builders have if nobody says otherwise.
    pub(super) open_files: Rlimit,
    /// May namespaces be created without a user namespace around them?
    pub(super) privileged: bool,
    /// Is this the init of a PID namespace?
    pub(super) pid_namespace: bool,
    run_builtin: RunBuiltin,
    /// Can the processes of builds without a sandbox be gathered in namespaces? Found out when it first matters.
    gathers: OnceCell<bool>,
}

impl Surroundings<'_> {
    /// Whether builds without a sandbox can have namespaces that gather their processes.
    pub(super) fn can_gather(&self) -> bool {
        *self.gathers.get_or_init(|| {
            self.privileged && self.pid_namespace && probe::can_create(namespaces::gathering())
        })
    }

    /// What a build's process that was born into these namespaces needs to know.
    pub(super) fn child<'a>(
        &'a self,
        status: &'a StatusSender,
        plan: OwnedFd,
        terminal: OwnedFd,
        namespaces: Namespaces,
    ) -> Child<'a> {
        Child {
            plan,
            status,
            terminal,
            null: self.null,
            launcher: self.launcher.as_fd(),
            filters: &self.filters,
            privileged: self.privileged,
            ids: self.ids,
            open_files: self.open_files,
            pid_namespace: namespaces.contains(Namespaces::PID),
            mount_namespace: namespaces.contains(Namespaces::MOUNT),
            network_namespace: namespaces.contains(Namespaces::NETWORK),
            cgroup: false,
            connection: None,
            groundwork: None,
            run_builtin: self.run_builtin,
        }
    }
}

/// What an event is about, as the number that the kernel keeps for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Control,
    Guardian,
    /// The process of the build with this number.
    Process(u64),
    /// Its status channel.
    Status(u64),
    /// The keeper of its network.
    Network(u64),
}

impl Token {
    fn data(self) -> EventData {
        EventData::new_u64(match self {
            Self::Control => 0,
            Self::Guardian => 1,
            Self::Process(number) => number * 4,
            Self::Status(number) => number * 4 + 1,
            Self::Network(number) => number * 4 + 2,
        })
    }

    fn from_data(data: EventData) -> Self {
        let number = data.u64() / 4;
        match (number, data.u64() % 4) {
            (0, 0) => Self::Control,
            (0, _) => Self::Guardian,
            (number, 0) => Self::Process(number),
            (number, 1) => Self::Status(number),
            (number, _) => Self::Network(number),
        }
    }
}

const EVENTS_AT_ONCE: usize = 64;
/// The spare process is created as soon as there is nothing else to do: short builds take little longer than that, and the next
/// one should find it ready.
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

struct EventLoop<'a> {
    control: BorrowedFd<'a>,
    epoll: OwnedFd,
    surroundings: Surroundings<'a>,
    networks: PrivateNetworks,
    /// By number, which starts at 1; see [`Token`].
    builds: BTreeMap<u64, Build>,
    next: u64,
    /// A process for the next build in a sandbox.
    spare: Option<Spare>,
    /// What it is to be made with as soon as there is time.
    spare_wanted: Option<GroundworkPlan>,
}

/// Runs until the engine is gone. The result is the exit code.
pub(super) fn run(
    control: BorrowedFd<'_>,
    null: BorrowedFd<'_>,
    guardian: BorrowedFd<'_>,
    pid_namespace: bool,
    run_builtin: RunBuiltin,
) -> u8 {
    match prepare(control, null, guardian, pid_namespace, run_builtin).and_then(EventLoop::serve) {
        Ok(()) => 0,
        Err(errno) => {
            eprintln!("error: the launcher cannot go on: {errno}");
            1
        }
    }
}

fn prepare<'a>(
    control: BorrowedFd<'a>,
    null: BorrowedFd<'a>,
    guardian: BorrowedFd<'_>,
    pid_namespace: bool,
    run_builtin: RunBuiltin,
) -> Result<EventLoop<'a>, Errno> {
    if pid_namespace {
        // The kernel takes all builders along.
        super::die_with(guardian)?;
    }
    set_child_subreaper(Some(getpid()))?;
    // Some descriptors for each build; what the engine was started with is put back for builders.
    let open_files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: open_files.maximum, ..open_files })?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, control, Token::Control.data(), EventFlags::IN)?;
    epoll::add(&epoll, guardian, Token::Guardian.data(), EventFlags::IN)?;
    let surroundings = Surroundings {
        null,
        launcher: pidfd_of_self().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?,
        filters: Filters::assembled(),
        ids: OwnIds::current(),
        open_files,
        privileged: has_privileges(),
        pid_namespace,
        run_builtin,
        gathers: OnceCell::new(),
    };
    let networks = PrivateNetworks::new(surroundings.privileged);
    Ok(EventLoop {
        control,
        epoll,
        surroundings,
        networks,
        builds: BTreeMap::new(),
        next: 1,
        spare: None,
        spare_wanted: None,
    })
}

impl EventLoop<'_> {
    fn serve(mut self) -> Result<(), Errno> {
        let mut events = [MaybeUninit::uninit(); EVENTS_AT_ONCE];
        loop {
            let spare_is_due = self.spare_wanted.is_some() && self.spare.is_none();
            let patience = spare_is_due.then_some(&AT_ONCE);
            let ready = match epoll::wait(&self.epoll, &mut events, patience) {
                Err(Errno::INTR) => continue,
                result => result?.0.iter().map(|event| Token::from_data(event.data)).collect::<Vec<_>>(),
            };
            if ready.is_empty()
                && let Some(groundwork) = self.spare_wanted.take()
            {
                self.spare = Spare::create(groundwork, &self.surroundings, &mut self.networks);
            }
            for token in ready {
                match token {
                    Token::Guardian => return self.end_builds(),
                    Token::Control => match request::receive(self.control)? {
                        Incoming::Closed => return self.end_builds(),
                        Incoming::Request(request, descriptors) => self.answer(request, descriptors),
                        Incoming::Malformed(reason, descriptors) => refuse(descriptors, reason),
                    },
                    Token::Process(number) => self.process_ended(number),
                    Token::Status(number) => {
                        if let Some(build) = self.builds.get_mut(&number) {
                            // The engine will say nothing more: it wants the build killed, or is gone.
                            build.kill();
                            let _ = epoll::delete(&self.epoll, build.status());
                        }
                    }
                    Token::Network(number) => self.network_lost(number),
                }
            }
        }
    }

    /// Kills all builds, and waits for their ends. The end of a PID namespace's init does that by itself.
    fn end_builds(mut self) -> Result<(), Errno> {
        if self.surroundings.pid_namespace {
            return Ok(());
        }
        if let Some(spare) = self.spare.take() {
            spare.end();
        }
        self.builds.values_mut().for_each(Build::kill);
        while let Some((number, build)) = self.builds.first_key_value() {
            let number = *number;
            let mut polled = [PollFd::from_borrowed_fd(build.process(), PollFlags::IN)];
            while let Err(Errno::INTR) = poll(&mut polled, None) {}
            self.process_ended(number);
        }
        Ok(())
    }

    fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) {
        match (request, <[OwnedFd; 3]>::try_from(descriptors)) {
            (Request::Launch(header), Ok([status, plan, terminal])) => {
                let launching = Launching { header, status: StatusSender::new(status), plan, terminal };
                self.launch(launching);
            }
            (Request::Launch(_), Err(descriptors)) => {
                refuse(descriptors, "the request lacks descriptors".to_owned());
            }
            (Request::Connect, descriptors) => {
                refuse(
                    descriptors.map_or_else(|few| few, Vec::from),
                    "this is no request to a launcher".to_owned(),
                );
            }
            (Request::Probe, descriptors) => {
                let Some(status) = descriptors.err().and_then(|all| all.into_iter().next()) else { return };
                let report = Report::Probed(probe::probe(&self.surroundings));
                StatusSender::new(status).send(&report, None);
            }
        }
    }

    fn launch(&mut self, launching: Launching) {
        let spare = self.spare.take_if(|spare| spare.fits(&launching));
        // The next build is most likely of the same kind.
        if launching.header.is_simple() {
            self.spare_wanted.clone_from(&launching.header.groundwork);
        }
        let Some(build) = launching.start(&self.surroundings, &mut self.networks, spare) else { return };
        let number = self.next;
        self.next += 1;
        let watch =
            |descriptor, token: Token, flags| epoll::add(&self.epoll, descriptor, token.data(), flags);
        let watched = watch(build.process(), Token::Process(number), EventFlags::IN)
            .and_then(|()| watch(build.status(), Token::Status(number), EventFlags::RDHUP))
            .and_then(|()| {
                build.network().map_or(Ok(()), |keeper| watch(keeper, Token::Network(number), EventFlags::IN))
            });
        if let Err(errno) = watched {
            // Without a watch nobody would learn of its end. Ending is what takes it down for sure.
            eprintln!("error: the launcher cannot watch a build: {errno}");
            exit_now(1);
        }
        self.builds.insert(number, build);
    }

    fn network_lost(&mut self, number: u64) {
        if let Some(build) = self.builds.get_mut(&number) {
            build.lose_network();
            if let Some(keeper) = build.network() {
                let _ = epoll::delete(&self.epoll, keeper);
            }
        }
    }

    fn process_ended(&mut self, number: u64) {
        let Some(build) = self.builds.remove(&number) else { return };
        // Closing the descriptors ends the watch on them only if no set-up process still has copies.
        let _ = epoll::delete(&self.epoll, build.process());
        let _ = epoll::delete(&self.epoll, build.status());
        if let Some(keeper) = build.network() {
            let _ = epoll::delete(&self.epoll, keeper);
        }
        let others: Vec<_> =
            self.builds.values().flat_map(Build::pids).chain(self.spare.as_ref().map(Spare::pid)).collect();
        if let Some(network) = build.finish(&self.surroundings, &others) {
            self.networks.take_back(network);
        }
    }
}

fn refuse(descriptors: Vec<OwnedFd>, reason: String) {
    if let Some(status) = descriptors.into_iter().next() {
        let error = SetupError::plain(SetupStage::Plan, reason);
        StatusSender::new(status).send(&Report::SetupFailed(error), None);
    }
}
