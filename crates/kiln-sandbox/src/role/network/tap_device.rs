//! The device from which interfaces in user space are made.

use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, makedev, mknodat, openat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

use crate::child::mount_of;

const DIRECTORY: &str = "/dev/net";
const DEVICE: &str = "tun";
/// Its numbers, the same on every Linux.
const NUMBERS: (u32, u32) = (10, 200);

/// In a mount namespace just created by root: lets any user open the device, whatever its permissions on the host are. It
/// grants nothing by itself: making an interface takes power over the network namespace that it is made in.
///
/// # Errors
/// It can't be done; then nothing has changed.
pub(super) fn open_up() -> Result<(), Errno> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let directory = mount_of("tmpfs", &[("mode", "0755")], flags)?;
    let mode = Mode::from_raw_mode(0o666);
    mknodat(&directory, DEVICE, FileType::CharacterDevice, mode, makedev(NUMBERS.0, NUMBERS.1))?;
    // In a container the node may be nothing but a name.
    let device = openat(&directory, DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // The mode at creation was subject to the umask.
    fchmod(&device, mode)?;
    move_mount(&directory, "", CWD, DIRECTORY, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
