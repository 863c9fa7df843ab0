//! The execution domain of a process (`personality(2)`), inherited by what it executes.

use rustix::io::Errno;

use crate::failure::last_errno;

// From linux/personality.h; the C library's bindings leave them out.
const PER_LINUX: libc::c_int = 0;
const PER_LINUX32: libc::c_int = 8;

/// Which oddities of older or other systems the process sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Personality {
    /// Same addresses in each run: no randomisation of stack, libraries and heap.
    pub no_randomisation: bool,
    /// `uname` names the 32-bit variant of the machine.
    pub linux32: bool,
    /// `uname` says Linux 2.6.
    pub linux26: bool,
}

/// Sets the personality of the calling process; all that is not asked for is off, whatever was inherited.
pub fn set_personality(personality: Personality) -> Result<(), Errno> {
    let mut value = if personality.linux32 { PER_LINUX32 } else { PER_LINUX };
    if personality.no_randomisation {
        value |= libc::ADDR_NO_RANDOMIZE;
    }
    if personality.linux26 {
        value |= libc::UNAME26;
    }
    // SAFETY: changes how later calls of this process behave; no memory is involved.
    if unsafe { libc::personality(value as libc::c_ulong) } >= 0 {
        return Ok(());
    }
    Err(last_errno())
}
