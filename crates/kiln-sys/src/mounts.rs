//! Attributes of mounts (`mount_setattr(2)`), by descriptor.

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;

use crate::failure::last_errno;

/// What to change at a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    /// Set read-only, or, with `Some(false)`, make writable.
    pub read_only: Option<bool>,
    /// Ignore set-user-ID bits and file capabilities.
    pub no_suid: bool,
    /// Refuse to open devices.
    pub no_dev: bool,
    /// Refuse to execute programs.
    pub no_exec: bool,
    /// Neither receive nor send mounts from and to the mounts that this one was copied from.
    pub private: bool,
}

/// Changes the attributes of the mount at `path` relative to `directory`, of those below it too if `recursive`.
///
/// An empty `path` stands for the mount that `directory` itself refers to, which may be detached.
pub fn set_attributes(
    directory: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    attributes: MountAttributes,
) -> Result<(), Errno> {
    let mut set = 0;
    let mut clear = 0;
    match attributes.read_only {
        Some(true) => set |= libc::MOUNT_ATTR_RDONLY,
        Some(false) => clear |= libc::MOUNT_ATTR_RDONLY,
        None => {}
    }
    let flags = [
        (attributes.no_suid, libc::MOUNT_ATTR_NOSUID),
        (attributes.no_dev, libc::MOUNT_ATTR_NODEV),
        (attributes.no_exec, libc::MOUNT_ATTR_NOEXEC),
    ];
    for (wanted, flag) in flags {
        if wanted {
            set |= flag;
        }
    }
    let propagation = if attributes.private { libc::MS_PRIVATE } else { 0 };
    let arguments = libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
    let mut at = libc::AT_EMPTY_PATH;
    if recursive {
        at |= libc::AT_RECURSIVE;
    }
    // SAFETY: `path` is a terminated string, and `arguments` a valid `mount_attr` of the given size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            at,
            ptr::from_ref(&arguments),
            mem::size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(last_errno())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_no_mount_point_is_refused() {
        let directory = tempdir();
        let result = set_attributes(directory.as_fd(), c"", false, MountAttributes::default());
        // With nothing to change the kernel does not even look, once the caller may change anything at all; with
        // something it insists on a mount.
        let may_mount = rustix::process::geteuid().is_root();
        assert_eq!(result, if may_mount { Ok(()) } else { Err(Errno::PERM) });
        let attributes = MountAttributes { read_only: Some(true), ..Default::default() };
        let refused = set_attributes(directory.as_fd(), c"", false, attributes).unwrap_err();
        assert!(matches!(refused, Errno::INVAL | Errno::PERM), "{refused:?}");
    }

    fn tempdir() -> File {
        File::open("/proc/self/fd").unwrap()
    }
}
