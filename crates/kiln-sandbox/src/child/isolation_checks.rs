//! The riskier steps of a set-up by themselves, for probing what a machine can do.

use kiln_sys::process::{Namespaces, enter_namespaces};
use kiln_sys::seccomp::install_filter;
use rustix::io::Errno;

use super::identity::OwnIds;
use super::{process_state, root};
use crate::SystemCallFilter;
use crate::mounts::FileSystemKind;
use crate::seccomp::Filters;
use crate::status::SetupError;

/// The builder's own user namespace.
pub(crate) fn user_namespace(ids: OwnIds) -> Result<(), Errno> {
    enter_namespaces(Namespaces::USER)?;
    ids.map().map_err(errno_of)
}

/// A new root on a tmpfs.
pub(crate) fn new_root() -> Result<(), Errno> {
    root::create_root().map(drop).map_err(errno_of)
}

/// A procfs of the processes in this PID namespace.
pub(crate) fn procfs() -> Result<(), Errno> {
    root::new_file_system(&FileSystemKind::Proc).map(drop)
}

/// Terminals of its own.
pub(crate) fn devpts() -> Result<(), Errno> {
    root::new_file_system(&FileSystemKind::Devpts).map(drop)
}

/// The system-call filter.
pub(crate) fn filter(filters: &Filters) -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)?;
    install_filter(filters.first(SystemCallFilter::Strict).ok_or(Errno::NOTSUP)?)?;
    install_filter(filters.closing())
}

/// Keeping away from the host's abstract sockets.
pub(crate) fn landlock_scope() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)?;
    if process_state::scope_abstract_sockets() { Ok(()) } else { Err(Errno::NOTSUP) }
}

fn errno_of(error: SetupError) -> Errno {
    error.errno.map_or(Errno::IO, Errno::from_raw_os_error)
}
