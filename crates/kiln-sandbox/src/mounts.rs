//! From the plan of a sandbox to the list of operations that build its root directory.
//!
//! This is a pure function, so that what a builder gets to see can be tested without any privilege. The list is carried
//! out in order by the build's own process in its own mount namespace. Targets are absolute paths in the builder's
//! world; their parents are made as needed, on the sandbox's own file system only.

use serde::Serialize;

use crate::{ByteString, LaunchPlan, Network, Sandbox};

mod files;
use files::readable_files;

/// One step in building the root directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountOperation {
    /// Stop mounts from travelling between the host's tree and this copy, and put an empty tmpfs beside it.
    CreateRoot,
    /// A file of the sandbox's own, that nobody can write to.
    File {
        /// Where.
        target: ByteString,
        /// What is in it.
        contents: ByteString,
    },
    /// A symbolic link of the sandbox's own.
    Symlink {
        /// Where.
        target: ByteString,
        /// What it points to.
        points_to: ByteString,
    },
    /// A part of the host.
    Bind(Bind),
    /// The input closure, below the store directory. Directories and files become read-only mounts, symbolic links are
    /// made anew. A mount serves files as well as the hard link that Nix makes, but the builder can't get at the
    /// inode's metadata, and it works across file systems.
    Inputs {
        /// The store directory.
        store: ByteString,
    },
    /// A new file system.
    FileSystem {
        /// Where.
        target: ByteString,
        /// Which.
        kind: FileSystemKind,
    },
    /// Hide what exists there.
    Mask {
        /// Where; what doesn't exist is skipped.
        target: ByteString,
    },
    /// Make what exists there read-only.
    ReadOnly {
        /// Where; what doesn't exist is skipped.
        target: ByteString,
    },
    /// Make it the root directory, and let go of the host's.
    EnterRoot,
    /// Make the sandbox's own directories and files read-only.
    SealRoot,
}

/// A part of the host, seen by the builder, with the mounts below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bind {
    /// What it is on the host; a symbolic link stands for what it points to.
    pub source: ByteString,
    /// Where the builder sees it.
    pub target: ByteString,
    /// May it be missing on the host?
    pub optional: bool,
    /// Is it read-only?
    pub read_only: bool,
    /// Are devices in it usable?
    pub devices: bool,
    /// Does it come from `sandbox-paths`? Errors say so.
    pub from_settings: bool,
}

/// A file system that the sandbox has for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystemKind {
    /// The processes of the build.
    Proc,
    /// Terminals.
    Devpts,
    /// Memory, mode 1777, with this `size` option.
    Tmpfs {
        /// Such as `50%` or `1G`.
        size: String,
    },
}

/// What programs expect in `/dev`.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
/// What `/proc` tells about the machine to those who may read it.
const MASKED: [&str; 8] =
    ["acpi", "kcore", "keys", "kmsg", "latency_stats", "sched_debug", "scsi", "timer_list"];
/// What in `/proc` lets root change the machine.
const PROTECTED: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// The operations that build the root directory of a sandboxed build.
pub fn mount_operations(plan: &LaunchPlan, sandbox: &Sandbox) -> Vec<MountOperation> {
    let mut operations = vec![MountOperation::CreateRoot];
    let build_directory = &plan.build_directory;
    let own = own_files(sandbox, &build_directory.target).into_iter().chain(devices(sandbox));
    // What the user maps wins over what would be there by itself.
    operations.extend(own.filter(|operation| !replaced(operation, sandbox)));
    operations.push(own_directory(&sandbox.store.source, &sandbox.store.target));
    operations.push(MountOperation::Inputs { store: sandbox.store.target.clone() });
    if !is_mapped(b"/tmp", sandbox) {
        operations.push(own_directory(&sandbox.temporary_directory, &"/tmp".into()));
    }
    operations.push(own_directory(&build_directory.source, &build_directory.target));
    operations.extend(sandbox_paths(sandbox));
    operations.push(MountOperation::FileSystem { target: "/proc".into(), kind: FileSystemKind::Proc });
    operations.push(MountOperation::EnterRoot);
    if sandbox.mask_proc {
        let below = |name: &&str| ByteString::from(format!("/proc/{name}"));
        operations.extend(MASKED.iter().map(|name| MountOperation::Mask { target: below(name) }));
        operations.extend(PROTECTED.iter().map(|name| MountOperation::ReadOnly { target: below(name) }));
    }
    operations.push(MountOperation::SealRoot);
    operations
}

fn own_directory(source: &ByteString, target: &ByteString) -> MountOperation {
    MountOperation::Bind(Bind {
        source: source.clone(),
        target: target.clone(),
        optional: false,
        read_only: false,
        devices: false,
        from_settings: false,
    })
}

/// `/etc`, partly our own, partly the host's where the network is.
fn own_files(sandbox: &Sandbox, build_directory: &ByteString) -> Vec<MountOperation> {
    let mut operations: Vec<_> = readable_files(build_directory, sandbox.network)
        .into_iter()
        .map(|(target, contents)| MountOperation::File { target: target.into(), contents })
        .collect();
    if sandbox.network == Network::Host {
        operations.extend(["/etc/resolv.conf", "/etc/services", "/etc/hosts"].map(|path| {
            MountOperation::Bind(Bind {
                source: path.into(),
                target: path.into(),
                optional: true,
                read_only: true,
                devices: false,
                from_settings: false,
            })
        }));
    }
    operations
}

fn devices(sandbox: &Sandbox) -> Vec<MountOperation> {
    let device = |name: &str, optional| {
        let path = ByteString::from(format!("/dev/{name}"));
        MountOperation::Bind(Bind {
            source: path.clone(),
            target: path,
            optional,
            read_only: false,
            devices: true,
            from_settings: false,
        })
    };
    let mut operations: Vec<_> = DEVICES.iter().map(|name| device(name, false)).collect();
    if sandbox.kvm {
        operations.push(device("kvm", true));
    }
    operations.extend(DEVICE_LINKS.map(|(target, points_to)| MountOperation::Symlink {
        target: target.into(),
        points_to: points_to.into(),
    }));
    operations.push(MountOperation::FileSystem {
        target: "/dev/shm".into(),
        kind: FileSystemKind::Tmpfs { size: sandbox.shared_memory_size.clone() },
    });
    if !is_mapped(b"/dev/pts", sandbox) {
        operations
            .push(MountOperation::FileSystem { target: "/dev/pts".into(), kind: FileSystemKind::Devpts });
        operations
            .push(MountOperation::Symlink { target: "/dev/ptmx".into(), points_to: "/dev/pts/ptmx".into() });
    }
    operations
}

/// Parents come before what is below them, whatever the order of the settings.
fn sandbox_paths(sandbox: &Sandbox) -> Vec<MountOperation> {
    let mut paths: Vec<_> = sandbox.paths.iter().filter(|path| path.source.as_bytes() != b"/proc").collect();
    paths.sort_by(|left, right| left.target.as_path().cmp(right.target.as_path()));
    paths
        .into_iter()
        .map(|path| {
            MountOperation::Bind(Bind {
                source: path.source.clone(),
                target: path.target.clone(),
                optional: path.optional,
                read_only: path.read_only,
                devices: true,
                from_settings: true,
            })
        })
        .collect()
}

/// Does the user map the target of this operation, or a directory that it is in?
fn replaced(operation: &MountOperation, sandbox: &Sandbox) -> bool {
    let target = match operation {
        MountOperation::File { target, .. }
        | MountOperation::Symlink { target, .. }
        | MountOperation::FileSystem { target, .. }
        | MountOperation::Bind(Bind { target, .. }) => target,
        _ => return false,
    };
    is_mapped(target.as_bytes(), sandbox)
}

fn is_mapped(target: &[u8], sandbox: &Sandbox) -> bool {
    let target = ByteString::from(target);
    sandbox
        .paths
        .iter()
        .any(|path| path.source.as_bytes() != b"/proc" && target.as_path().starts_with(path.target.as_path()))
}

#[cfg(test)]
mod tests;
