//! Why the last call into the C library failed.

use rustix::io::Errno;

/// The error number that the last failed call of this thread left behind.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
