//! What a build's own process does before it becomes the builder.
//!
//! It is a copy of the launcher with a single thread, already in its new namespaces, and still privileged. Everything
//! here is ordinary code that runs from top to bottom; the first failure is reported over the build's status channel and
//! ends the process. After the last step there is nothing left that the builder could use.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::catch_unwind;

use kiln_sys::process::{Namespaces, close_descriptors_but, enter_namespaces, execute, exit_now};
use rustix::io::Errno;
use rustix::process::Rlimit;

use crate::mounts::GroundworkPlan;
use crate::status::{Report, StatusChannel, StatusSender, describe};
use crate::{
    BuiltinCall, ByteString, Confinement, Isolation, LaunchPlan, Network, RunBuiltin, Sandbox, SetupError,
    SetupStage,
};

mod files;
mod filter;
mod groundwork;
mod identity;
pub(crate) mod isolation_checks;
mod mount_point;
mod network;
mod process_state;
mod root;

pub(crate) use groundwork::Groundwork;
pub(crate) use identity::{OwnIds, renounce_root};
pub(crate) use root::{enter_root, mount_of};

/// How many processes and threads a build may have at a time, by a limit of its user or its cgroup: more than any build
/// needs, and few enough that one which does nothing but multiply leaves the machine usable.
pub(crate) const MOST_PROCESSES: u64 = 1 << 14;

/// What the process gets from the launcher.
pub(crate) struct Child<'a> {
    /// The plan as JSON, in a file.
    pub(crate) plan: OwnedFd,
    pub(crate) status: &'a StatusSender,
    /// The builder's standard output and error.
    pub(crate) terminal: OwnedFd,
    /// The builder's standard input.
    pub(crate) null: BorrowedFd<'a>,
    /// The launcher, to see whether it still lives.
    pub(crate) launcher: BorrowedFd<'a>,
    /// The filters, already assembled.
    pub(crate) filters: &'a crate::seccomp::Filters,
    /// Could the launcher create namespaces without a user namespace around them?
    pub(crate) privileged: bool,
    /// The launcher's own IDs.
    pub(crate) ids: OwnIds,
    /// The limit of open files before the launcher raised it.
    pub(crate) open_files: Rlimit,
    /// Is this the init of a new PID namespace?
    pub(crate) pid_namespace: bool,
    /// Is there a new mount namespace?
    pub(crate) mount_namespace: bool,
    /// Is there a new network namespace, in which nothing has been done yet?
    pub(crate) network_namespace: bool,
    /// Was the process born in a cgroup of its own?
    pub(crate) cgroup: bool,
    /// The channel to the keeper of its network, if there is one.
    pub(crate) connection: Option<StatusChannel>,
    /// What has been done for a sandbox before there was a plan.
    pub(crate) groundwork: Option<Result<Groundwork, SetupError>>,
    pub(crate) run_builtin: RunBuiltin,
}

/// A process that has all but become a builder.
struct Prepared {
    builder: Builder,
    isolation: Isolation,
    /// Its mount namespace, if it has one of its own.
    mounts: Option<OwnedFd>,
}

/// What the process becomes.
enum Builder {
    Program(Program),
    /// A part of this program, which goes on in this process.
    Builtin(BuiltinCall),
}

/// The program, ready to be executed.
struct Program {
    name: ByteString,
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Child<'_> {
    /// Sets up the world and becomes the builder. Returns only if that fails, with the exit code.
    pub(crate) fn run(self) -> u8 {
        let (status, run_builtin) = (self.status, self.run_builtin);
        let failed = |error| {
            status.send(&Report::SetupFailed(error), None);
            1
        };
        let Prepared { builder, isolation, mounts } = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => return failed(error),
        };
        status.send(&Report::Started(isolation), mounts.as_ref().map(AsFd::as_fd));
        drop(mounts);
        let program = match builder {
            Builder::Program(program) => program,
            Builder::Builtin(call) => {
                // As executing a program would have done. Nothing may return from here into what owns one of them.
                let closed = close_descriptors_but(&[]).is_ok();
                let run = || if closed { run_builtin(&call) } else { 1 };
                exit_now(catch_unwind(run).unwrap_or(1));
            }
        };
        let errno = execute(&program.path, &program.arguments, &program.environment);
        // A builder that can't be executed is one that has failed, not an error of the set-up.
        let mut line = b"executing '".to_vec();
        line.extend_from_slice(program.name.as_bytes());
        line.extend_from_slice(format!("': {}\n", describe(errno)).as_bytes());
        // Nobody is left to be told if the log is gone.
        let _ = std::io::stderr().write_all(&line);
        1
    }

    fn prepare(mut self) -> Result<Prepared, SetupError> {
        let plan = read_plan(&self.plan)?;
        let builder = Builder::new(&plan)?;
        let mut isolation =
            Isolation { processes: self.pid_namespace, cgroup: self.cgroup, ..Isolation::default() };
        process_state::set_limits(&plan, self.open_files)?;
        let mut mounts = None;
        match &plan.confinement {
            Confinement::Sandbox(sandbox) => {
                self.enter_sandbox(&plan, sandbox, &mut isolation)?;
                // Without it, the build ends later.
                mounts = File::open("/proc/self/ns/mnt").ok().map(OwnedFd::from);
            }
            Confinement::None => {
                process_state::begin_session()?;
                if self.mount_namespace {
                    root::replace_proc()?;
                }
                files::place(&plan)?;
                process_state::enter(&plan.build_directory.source)?;
            }
        }
        process_state::set_streams(self.null, self.terminal.as_fd())?;
        identity::assume(&plan, self.privileged, &mut isolation)?;
        process_state::die_with(self.launcher)?;
        if plan.sandbox().is_some_and(|sandbox| sandbox.network == Network::Host) {
            isolation.abstract_sockets = process_state::scope_abstract_sockets();
        }
        if plan.sandbox().is_none() {
            isolation.system_calls = filter::begin(self.filters, plan.system_calls)?;
        }
        if isolation.system_calls {
            filter::close(self.filters)?;
        }
        Ok(Prepared { builder, isolation, mounts })
    }

    fn enter_sandbox(
        &mut self,
        plan: &LaunchPlan,
        sandbox: &Sandbox,
        isolation: &mut Isolation,
    ) -> Result<(), SetupError> {
        if sandbox.id_count > 1 {
            enter_namespaces(Namespaces::CGROUP).map_err(|errno| {
                SetupError::new(
                    SetupStage::Cgroup,
                    "cannot make the cgroup the root of those that are seen",
                    errno,
                )
            })?;
        }
        let connection = self.connection.take();
        let entered = match &connection {
            Some(_) if self.privileged => Some(network::enter_network_of_owner(plan)?),
            _ => None,
        };
        let groundwork = match self.groundwork.take() {
            Some(groundwork) => groundwork?,
            None => {
                let groundwork = GroundworkPlan::of(plan, sandbox);
                Groundwork::lay(&groundwork, self.privileged, self.ids, self.network_namespace, self.filters)?
            }
        };
        // The helper starts while the root is being built.
        let connecting = connection.map(|channel| network::begin_to_connect(channel, entered)).transpose()?;
        files::place(plan)?;
        root::build(&groundwork, plan, sandbox)?;
        connecting.map_or(Ok(()), network::Connecting::finish)?;
        process_state::enter(&plan.build_directory.target)?;
        isolation.system_calls = groundwork.filtered;
        isolation.files = true;
        isolation.ipc = true;
        isolation.host_name = true;
        isolation.network = sandbox.network != Network::Host;
        Ok(())
    }
}

/// The plan comes from the engine; it is bounded by the size of its file, which can't grow while it is read.
fn read_plan(file: &OwnedFd) -> Result<LaunchPlan, SetupError> {
    let unreadable = |error: &dyn std::fmt::Display| {
        SetupError::plain(SetupStage::Plan, format!("cannot read the plan: {error}"))
    };
    let mut file = File::from(file.try_clone().map_err(|error| unreadable(&error))?);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))
}

impl Builder {
    fn new(plan: &LaunchPlan) -> Result<Self, SetupError> {
        Ok(match &plan.builtin {
            None => Self::Program(Program::new(plan)?),
            Some(input) => Self::Builtin(BuiltinCall {
                builder: plan.builder.clone(),
                environment: plan.environment.clone(),
                input: input.clone(),
            }),
        })
    }
}

impl Program {
    fn new(plan: &LaunchPlan) -> Result<Self, SetupError> {
        let string = |bytes: &ByteString, what: &str| {
            bytes.to_c_string().map_err(|_| {
                SetupError::plain(SetupStage::Plan, format!("{what} contains a NUL byte: {bytes:?}"))
            })
        };
        let base_name = plan
            .builder
            .as_path()
            .file_name()
            .map_or_else(|| plan.builder.clone(), |name| ByteString::from(name.to_owned()));
        let arguments = [&base_name].into_iter().chain(&plan.arguments);
        Ok(Self {
            name: plan.builder.clone(),
            path: string(&plan.builder, "the builder")?,
            arguments: arguments.map(|argument| string(argument, "an argument")).collect::<Result<_, _>>()?,
            environment: plan
                .environment
                .iter()
                .map(|(name, value)| {
                    let variable = [name.as_bytes(), b"=", value.as_bytes()].concat();
                    string(&variable.into(), "an environment variable")
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

/// A closure that turns an error number into a [`SetupError`] about a path.
fn at_path<'a>(
    stage: SetupStage,
    message: &'a str,
    path: &'a ByteString,
) -> impl Fn(Errno) -> SetupError + 'a {
    move |errno| SetupError::new(stage, message, errno).at(path.clone())
}
