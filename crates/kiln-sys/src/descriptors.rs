//! Descriptors that whoever started this process has passed on under agreed numbers (`sd_listen_fds(3)`).

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// A copy of the descriptor with this number. The original stays open, since nobody can tell whether somebody in this
/// process owns it, but no program that this process starts inherits it.
///
/// # Errors
///
/// `EBADF` if there is none.
pub fn copy_inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: it is only used to make a copy and to set a flag, during this call, by system calls that answer EBADF if it
    // isn't open. -1, the number that must never be borrowed, has been refused.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(inherited, FdFlags::CLOEXEC)?;
    fcntl_dupfd_cloexec(inherited, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_copy_is_another_descriptor_of_the_same_file() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let copy = copy_inherited(file.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), file.as_raw_fd());
        let inode = |fd: &dyn std::os::fd::AsFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(&copy), inode(&file));
        assert_eq!(copy_inherited(-1).unwrap_err(), Errno::BADF);
        assert_eq!(copy_inherited(1 << 20).unwrap_err(), Errno::BADF);
    }
}
