//! Carrying out the mount operations of a plan, by descriptor.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kiln_fs::Component;
use kiln_sys::mounts::{MountAttributes, set_attributes};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, readlinkat, statat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::mount_point::{Kind, NewRoot, kind_of};
use super::{Groundwork, at_path};
use crate::mounts::{Bind, FileSystemKind, MountOperation, build_operations};
use crate::{ByteString, Input, LaunchPlan, Sandbox, SetupError, SetupStage};

/// Builds the root directory on its groundwork, and enters it.
pub(super) fn build(groundwork: &Groundwork, plan: &LaunchPlan, sandbox: &Sandbox) -> Result<(), SetupError> {
    carry_out(&groundwork.root, &build_operations(plan, sandbox), &sandbox.store.inputs)
}

/// Carries out operations in their order. `inputs` is what there is to be found in the store directory.
pub(super) fn carry_out(
    root: &NewRoot,
    operations: &[MountOperation],
    inputs: &[Input],
) -> Result<(), SetupError> {
    operations.iter().try_for_each(|operation| carry_out_one(root, operation, inputs))
}

fn carry_out_one(root: &NewRoot, operation: &MountOperation, inputs: &[Input]) -> Result<(), SetupError> {
    match operation {
        // Done already: nothing else could have been done without it.
        MountOperation::CreateRoot => Ok(()),
        MountOperation::File { target, contents } => {
            let failed = at_path(SetupStage::Mounts, "cannot create", target);
            let mut file = File::from(root.create_file(target.as_path()).map_err(&failed)?);
            let written = file.write_all(contents.as_bytes());
            written.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
        }
        MountOperation::Symlink { target, points_to } => root
            .create_symlink(target.as_path(), points_to.as_path())
            .map_err(at_path(SetupStage::Mounts, "cannot create the symbolic link", target)),
        MountOperation::Bind(bind) => bind_part_of_host(root, bind),
        MountOperation::Inputs { store } => add_inputs(root, store, inputs),
        MountOperation::FileSystem { target, kind } => {
            let failed = at_path(SetupStage::Mounts, "cannot mount a new file system at", target);
            let mount = new_file_system(kind).map_err(&failed)?;
            let point = root.open_or_create(target.as_path(), Kind::Directory).map_err(&failed)?;
            attach(&mount, point.as_fd()).map_err(&failed)?;
            root.covered(target.as_path());
            root.keep_empty(point);
            Ok(())
        }
        MountOperation::Mask { target } => mask(root, target).or_else(unless_missing).map_err(at_path(
            SetupStage::Mounts,
            "cannot mask",
            target,
        )),
        MountOperation::ReadOnly { target } => make_read_only(root, target)
            .or_else(unless_missing)
            .map_err(at_path(SetupStage::Mounts, "cannot make read-only", target)),
        MountOperation::EnterRoot => enter_root(root.as_fd())
            .map_err(|errno| SetupError::new(SetupStage::Root, "cannot enter the new root directory", errno)),
        MountOperation::SealRoot => {
            let attributes = MountAttributes { read_only: Some(true), ..Default::default() };
            set_attributes(root.as_fd(), c"", false, attributes)
                .map_err(|errno| SetupError::new(SetupStage::Root, "cannot seal the root directory", errno))
        }
    }
}

fn unless_missing(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::NOENT { Ok(()) } else { Err(errno) }
}

/// Why a namespace can't be cut off from below a directory.
const PLAIN_CHROOT: &str = "cannot cut the build off from the mounts of this machine, since '/' is no mount point (a plain \
    chroot?); 'mount --bind DIR DIR' before entering it helps";

/// Cuts this mount namespace off from the host's, and puts an empty tmpfs on top of its root.
///
/// Absolute paths still lead into the host's tree, since a process's own root is the mount below; the tmpfs is reached
/// by its descriptor.
pub(super) fn create_root() -> Result<NewRoot, SetupError> {
    let failed = |errno| SetupError::new(SetupStage::Root, "cannot create the new root directory", errno);
    let private = MountAttributes { private: true, ..Default::default() };
    set_attributes(CWD, c"/", true, private).map_err(|errno| match errno {
        Errno::INVAL => SetupError::new(SetupStage::Root, PLAIN_CHROOT, errno),
        errno => failed(errno),
    })?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let tmpfs = mount_of("tmpfs", &[("mode", "0755")], flags).map_err(failed)?;
    move_mount(&tmpfs, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)?;
    NewRoot::new(tmpfs).map_err(failed)
}

/// Makes the new root the root of this process, and detaches the host's whole tree.
pub(crate) fn enter_root(root: impl AsFd) -> Result<(), Errno> {
    fchdir(root)?;
    // The old root comes to lie on top of the new one, and is taken off from there.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

fn bind_part_of_host(root: &NewRoot, bind: &Bind) -> Result<(), SetupError> {
    let (stage, prefix) = if bind.from_settings {
        (SetupStage::SandboxPaths, "while processing 'sandbox-paths': ")
    } else {
        (SetupStage::Mounts, "")
    };
    let error = |message: &str, path: &ByteString, errno| {
        SetupError::new(stage, format!("{prefix}{message}"), errno).at(path.clone())
    };
    let tree = match clone_tree(CWD, bind.source.as_path()) {
        Err(Errno::NOENT) if bind.optional => return Ok(()),
        result => result.map_err(|errno| error("getting attributes of path", &bind.source, errno))?,
    };
    let cannot = |errno| error("cannot bind mount at", &bind.target, errno);
    let attributes = MountAttributes {
        read_only: bind.read_only.then_some(true),
        no_suid: true,
        no_dev: !bind.devices,
        ..Default::default()
    };
    // A device of our own choice needs none of them.
    if bind.from_settings || !bind.devices {
        set_attributes(tree.as_fd(), c"", true, attributes).map_err(cannot)?;
    }
    let kind = kind_of(tree.as_fd()).map_err(cannot)?;
    let point = root.open_or_create(bind.target.as_path(), kind).map_err(cannot)?;
    attach(&tree, point.as_fd()).map_err(cannot)?;
    root.covered(bind.target.as_path());
    Ok(())
}

/// A detached copy of the mounts at and below a path; a symbolic link stands for what it points to.
fn clone_tree(directory: BorrowedFd<'_>, path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(directory, path, flags)
}

fn attach(mount: &OwnedFd, point: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", point, "", flags)
}

/// Puts the input closure into the store directory, and makes it read-only in one go.
fn add_inputs(root: &NewRoot, store: &ByteString, inputs: &[Input]) -> Result<(), SetupError> {
    let failed = at_path(SetupStage::Mounts, "cannot protect the inputs in", store);
    let directory = root.open(store.as_path()).map_err(&failed)?;
    for input in inputs {
        add_input(directory.as_fd(), input).map_err(at_path(
            SetupStage::Mounts,
            "cannot make the input available:",
            &input.source,
        ))?;
    }
    let protected =
        MountAttributes { read_only: Some(true), no_suid: true, no_dev: true, ..Default::default() };
    set_attributes(directory.as_fd(), c"", true, protected).map_err(&failed)?;
    // The directory itself is where outputs are made.
    let writable = MountAttributes { read_only: Some(false), ..Default::default() };
    set_attributes(directory.as_fd(), c"", false, writable).map_err(&failed)
}

fn add_input(store: BorrowedFd<'_>, input: &Input) -> Result<(), Errno> {
    let (name, source) = (input.name.as_path(), input.source.as_path());
    if Component::new(input.name.as_bytes()).is_err() {
        return Err(Errno::INVAL);
    }
    let status = statat(CWD, source, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Symlink => {
            let points_to = readlinkat(CWD, source, Vec::new())?;
            return symlinkat(&points_to, store, name);
        }
        FileType::Directory => mkdirat(store, name, Mode::from_raw_mode(0o755))?,
        _ => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
            drop(openat(store, name, flags, Mode::from_raw_mode(0o444))?);
        }
    }
    let tree = clone_tree(CWD, source)?;
    move_mount(&tree, "", store, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

pub(super) fn new_file_system(kind: &FileSystemKind) -> Result<OwnedFd, Errno> {
    let safe = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let no_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    match kind {
        FileSystemKind::Proc => mount_of("proc", &[], safe | no_exec),
        FileSystemKind::Cgroup => mount_of("cgroup2", &[], safe | no_exec),
        FileSystemKind::Devpts => mount_of("devpts", &[("mode", "0620"), ("ptmxmode", "0666")], no_exec),
        FileSystemKind::Tmpfs { size } => mount_of("tmpfs", &[("mode", "1777"), ("size", size)], safe),
    }
}

/// A new instance of a file system, mounted but not attached anywhere.
pub(crate) fn mount_of(
    name: &str,
    options: &[(&str, &str)],
    flags: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

fn mask(root: &NewRoot, target: &ByteString) -> Result<(), Errno> {
    let point = root.open(target.as_path())?;
    let cover = match (kind_of(point.as_fd())?, root.empty()) {
        (Kind::File, _) => clone_tree(root.as_fd(), "dev/null".as_ref())?,
        (Kind::Directory, Some(empty)) => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let cover = open_tree(empty, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?;
            let attributes = MountAttributes { read_only: Some(true), ..Default::default() };
            set_attributes(cover.as_fd(), c"", false, attributes)?;
            cover
        }
        (Kind::Directory, None) => return Err(Errno::NOTDIR),
    };
    attach(&cover, point.as_fd())
}

fn make_read_only(root: &NewRoot, target: &ByteString) -> Result<(), Errno> {
    let point = root.open(target.as_path())?;
    let tree = clone_tree(root.as_fd(), target.as_path().strip_prefix("/").unwrap_or(target.as_path()))?;
    let attributes = MountAttributes { read_only: Some(true), ..Default::default() };
    set_attributes(tree.as_fd(), c"", true, attributes)?;
    attach(&tree, point.as_fd())
}

/// Without a sandbox, but in a PID namespace: makes `/proc` show the processes that there are.
pub(super) fn replace_proc() -> Result<(), SetupError> {
    let failed = |errno| SetupError::new(SetupStage::Mounts, "cannot mount a new procfs", errno);
    let private = MountAttributes { private: true, ..Default::default() };
    set_attributes(CWD, c"/", true, private).map_err(|errno| match errno {
        Errno::INVAL => SetupError::new(SetupStage::Root, PLAIN_CHROOT, errno),
        errno => failed(errno),
    })?;
    let proc = new_file_system(&FileSystemKind::Proc).map_err(failed)?;
    move_mount(&proc, "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)
}
