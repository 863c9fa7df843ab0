//! The plain attributes of the builder's process.

use std::os::fd::BorrowedFd;

use kiln_sys::personality::{Personality, set_personality};
use landlock::{Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, chdir, getrlimit, setrlimit, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::system::{setdomainname, sethostname};

use super::{MOST_PROCESSES, at_path};
use crate::{ByteString, Credentials, LaunchPlan, SetupError, SetupStage};

/// Leaves the launcher's session for a new one.
pub(super) fn begin_session() -> Result<(), SetupError> {
    match setsid() {
        Ok(_) => Ok(()),
        Err(errno) => Err(SetupError::new(SetupStage::Streams, "cannot create a session", errno)),
    }
}

/// Umask, limits, personality. `open_files` is the limit unless the plan has another.
pub(super) fn set_limits(plan: &LaunchPlan, open_files: Rlimit) -> Result<(), SetupError> {
    let failed = |message| move |errno| SetupError::new(SetupStage::Streams, message, errno);
    umask(Mode::from_raw_mode(0o022));
    // The hard limit stays, so that a test suite which wants core dumps can have them.
    let core = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), ..core })
        .map_err(failed("cannot limit core dumps"))?;
    let wanted = plan.open_files.or(open_files.current);
    let current = wanted.map(|wanted| open_files.maximum.map_or(wanted, |maximum| wanted.min(maximum)));
    setrlimit(Resource::Nofile, Rlimit { current, ..open_files })
        .map_err(failed("cannot limit open files"))?;
    limit_processes(plan)?;
    let personality = Personality {
        no_randomisation: true,
        linux32: plan.personality.linux32,
        linux26: plan.personality.linux26,
    };
    set_personality(personality).map_err(failed("cannot set the personality"))
}

/// Limits the processes of a build that is not counted together with others of its user: one with a user of its own, or in
/// a user namespace.
fn limit_processes(plan: &LaunchPlan) -> Result<(), SetupError> {
    let shares_user = matches!(plan.credentials, Credentials::Caller);
    if shares_user && plan.sandbox().is_none() {
        return Ok(());
    }
    let allowed = getrlimit(Resource::Nproc).maximum;
    let most = Some(allowed.map_or(MOST_PROCESSES, |allowed| allowed.min(MOST_PROCESSES)));
    setrlimit(Resource::Nproc, Rlimit { current: most, maximum: most })
        .map_err(|errno| SetupError::new(SetupStage::Streams, "cannot limit processes", errno))
}

/// Host name, and the interface to talk to oneself if that has to be brought up.
pub(super) fn name_host(loopback: bool) -> Result<(), SetupError> {
    let failed = |message| move |errno| SetupError::new(SetupStage::Network, message, errno);
    if loopback {
        kiln_sys::network::bring_up_loopback().map_err(failed("cannot bring up the loopback interface"))?;
    }
    sethostname(b"localhost").map_err(failed("cannot set the host name"))?;
    setdomainname(b"(none)").map_err(failed("cannot set the domain name"))
}

/// Makes a directory the working directory.
pub(super) fn enter(directory: &ByteString) -> Result<(), SetupError> {
    chdir(directory.as_path()).map_err(at_path(
        SetupStage::Streams,
        "cannot enter the build directory",
        directory,
    ))
}

/// Standard input is empty; output and error are the log.
pub(super) fn set_streams(null: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> Result<(), SetupError> {
    let failed = |errno| SetupError::new(SetupStage::Streams, "cannot set the standard streams", errno);
    dup2_stdin(null).map_err(failed)?;
    dup2_stdout(terminal).map_err(failed)?;
    dup2_stderr(terminal).map_err(failed)
}

/// Arranges that the builder does not outlive the launcher.
pub(super) fn die_with(launcher: BorrowedFd<'_>) -> Result<(), SetupError> {
    crate::role::die_with(launcher).map_err(|errno| {
        SetupError::new(SetupStage::Streams, "cannot bind the builder to the launcher", errno)
    })
}

/// Puts the abstract sockets of the host out of reach; `false` where the kernel can't.
pub(super) fn scope_abstract_sockets() -> bool {
    let restricted = Ruleset::default()
        .scope(Scope::AbstractUnixSocket)
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.restrict_self());
    restricted.is_ok_and(|status| status.ruleset == RulesetStatus::FullyEnforced)
}
