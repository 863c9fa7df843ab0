//! Installing the filter of system calls, in its two parts: see [`crate::seccomp`].

use kiln_sys::seccomp::install_filter;
use rustix::thread::set_no_new_privs;

use crate::seccomp::Filters;
use crate::{SetupError, SetupStage, SystemCallFilter};

/// Renounces all that programs with set-ID bits would bring, and installs the first part of the filter that is wanted.
/// `false` if none is.
pub(super) fn begin(filters: &Filters, wanted: SystemCallFilter) -> Result<bool, SetupError> {
    set_no_new_privs(true).map_err(failed("cannot renounce new privileges"))?;
    if wanted == SystemCallFilter::Off {
        return Ok(false);
    }
    let program = filters.first(wanted).ok_or_else(|| {
        SetupError::plain(SetupStage::Filter, "there is no system call filter for this architecture")
    })?;
    install_filter(program).map_err(failed("cannot install the system call filter"))?;
    Ok(true)
}

/// Installs the second part, after the last step that needs what it takes away.
pub(super) fn close(filters: &Filters) -> Result<(), SetupError> {
    install_filter(filters.closing()).map_err(failed("cannot complete the system call filter"))
}

fn failed(message: &'static str) -> impl Fn(rustix::io::Errno) -> SetupError {
    move |errno| SetupError::new(SetupStage::Filter, message, errno)
}
