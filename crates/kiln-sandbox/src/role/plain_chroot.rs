//! Out of a plain chroot: where the root directory of a process is none of a mount, mounts cannot be cut off from the
//! machine's, nothing can be pivoted away, and the kernel refuses user namespaces.
//!
//! The launcher gets a mount namespace of its own there, whose whole tree is what the chroot shows.

use kiln_sys::mounts::{MountAttributes, set_attributes};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::process::{chdir, chroot, fchdir};

use crate::child::{enter_root, mount_of};

/// More directories than there can be above one.
const DEPTH: usize = 1000;

/// Whether this process is in one. Kernels before 5.8 don't tell.
pub(super) fn is_in_one() -> bool {
    let root = statx(CWD, "/", AtFlags::empty(), StatxFlags::empty());
    root.is_ok_and(|root| {
        root.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
            && !root.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    })
}

/// Makes what this process sees the tree of its mount namespace, which has to be new: it loses all else.
pub(super) fn leave() -> Result<(), Errno> {
    let seen = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // From outside of its root directory, a process finds its way up to where the namespace begins.
    let outside = mount_of("tmpfs", &[], MountAttrFlags::empty())?;
    fchdir(&outside)?;
    chroot(".")?;
    fchdir(&seen)?;
    chdir("../".repeat(DEPTH))?;
    chroot(".")?;
    let private = MountAttributes { private: true, ..Default::default() };
    set_attributes(CWD, c"/", true, private)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(&seen, "", flags)?;
    move_mount(&tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    enter_root(&tree)
}
