//! From the plan of a sandbox to the list of operations that build its root directory.
//!
//! This is a pure function, so that what a builder gets to see can be tested without any privilege. The list is carried
//! out in order by the build's own process in its own mount namespace. Targets are absolute paths in the builder's
//! world; their parents are made as needed, on the sandbox's own file system only.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{ByteString, LaunchPlan, Network, Sandbox, SandboxPath, SystemCallFilter};

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
    /// The build's own cgroup, and what it makes in it.
    Cgroup,
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

/// What the part of a sandbox depends on that has nothing to do with what is built, nor with what is on the host: from one
/// build to the next it hardly changes, and can be made before the next one is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroundworkPlan {
    pub(crate) network: Network,
    build_directory: ByteString,
    /// Where the user maps something that wins over what would be there by itself.
    mapped: BTreeSet<ByteString>,
    kvm: bool,
    shared_memory_size: String,
    mask_proc: bool,
    /// Not a part of what is seen, but of what is made before the build is known.
    pub(crate) system_calls: SystemCallFilter,
}

impl GroundworkPlan {
    pub(crate) fn of(plan: &LaunchPlan, sandbox: &Sandbox) -> Self {
        let mut groundwork = Self {
            network: sandbox.network,
            build_directory: plan.build_directory.target.clone(),
            mapped: BTreeSet::new(),
            kvm: sandbox.kvm,
            shared_memory_size: sandbox.shared_memory_size.clone(),
            mask_proc: sandbox.mask_proc,
            system_calls: plan.system_calls,
        };
        let operations = groundwork.all().into_iter().chain(files_of_the_network(sandbox.network));
        let own: Vec<ByteString> =
            operations.filter_map(|operation| target(&operation).cloned()).chain(["/tmp".into()]).collect();
        let wins = |mapped: &&ByteString| own.iter().any(|own| own.as_path().starts_with(mapped.as_path()));
        let mapped = mapped_paths(sandbox).map(|path| &path.target);
        groundwork.mapped = mapped.filter(wins).cloned().collect();
        groundwork
    }

    /// What there would be if nothing was mapped.
    fn all(&self) -> Vec<MountOperation> {
        let mut operations = own_files(self);
        operations.extend(devices(self));
        operations
    }

    /// Is the target mapped, or a directory that it is in?
    fn is_mapped(&self, target: &ByteString) -> bool {
        self.mapped.iter().any(|mapped| target.as_path().starts_with(mapped.as_path()))
    }
}

/// The operations that build the root directory of a sandboxed build.
pub fn mount_operations(plan: &LaunchPlan, sandbox: &Sandbox) -> Vec<MountOperation> {
    let mut operations = vec![MountOperation::CreateRoot];
    operations.extend(groundwork_operations(&GroundworkPlan::of(plan, sandbox)));
    operations.extend(build_operations(plan, sandbox));
    operations
}

/// The first of them, which need no host and no build.
pub(crate) fn groundwork_operations(plan: &GroundworkPlan) -> Vec<MountOperation> {
    let mut operations = plan.all();
    operations.retain(|operation| !target(operation).is_some_and(|target| plan.is_mapped(target)));
    operations.push(MountOperation::FileSystem { target: "/proc".into(), kind: FileSystemKind::Proc });
    if plan.mask_proc {
        let below = |name: &&str| ByteString::from(format!("/proc/{name}"));
        operations.extend(MASKED.iter().map(|name| MountOperation::Mask { target: below(name) }));
        operations.extend(PROTECTED.iter().map(|name| MountOperation::ReadOnly { target: below(name) }));
    }
    operations
}

/// The rest: what is the build's own, or the host's.
pub(crate) fn build_operations(plan: &LaunchPlan, sandbox: &Sandbox) -> Vec<MountOperation> {
    let groundwork = GroundworkPlan::of(plan, sandbox);
    let mut operations = files_of_the_network(sandbox.network);
    operations.retain(|operation| !target(operation).is_some_and(|target| groundwork.is_mapped(target)));
    operations.push(own_directory(&sandbox.store.source, &sandbox.store.target));
    operations.push(MountOperation::Inputs { store: sandbox.store.target.clone() });
    if !groundwork.is_mapped(&"/tmp".into()) {
        operations.push(own_directory(&sandbox.temporary_directory, &"/tmp".into()));
    }
    operations.push(own_directory(&plan.build_directory.source, &plan.build_directory.target));
    if sandbox.id_count > 1 {
        let target = "/sys/fs/cgroup".into();
        operations.push(MountOperation::FileSystem { target, kind: FileSystemKind::Cgroup });
    }
    operations.extend(sandbox_paths(sandbox));
    operations.push(MountOperation::EnterRoot);
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

/// `/etc`, as far as it is our own.
fn own_files(plan: &GroundworkPlan) -> Vec<MountOperation> {
    readable_files(&plan.build_directory, plan.network)
        .into_iter()
        .map(|(target, contents)| MountOperation::File { target: target.into(), contents })
        .collect()
}

/// `/etc`, as far as it is the host's, or follows from it, where there is a network.
fn files_of_the_network(network: Network) -> Vec<MountOperation> {
    let files: &[&str] = match network {
        Network::Private => &[],
        Network::Isolated => &["/etc/services", "/etc/hosts"],
        Network::Host => &["/etc/resolv.conf", "/etc/services", "/etc/hosts"],
    };
    let bind = |path: &&str| {
        MountOperation::Bind(Bind {
            source: (*path).into(),
            target: (*path).into(),
            optional: true,
            read_only: true,
            devices: false,
            from_settings: false,
        })
    };
    let mut operations: Vec<_> = files.iter().map(bind).collect();
    if network == Network::Isolated {
        let target = "/etc/resolv.conf".into();
        operations.push(MountOperation::File { target, contents: crate::pasta::resolv_conf() });
    }
    operations
}

fn devices(plan: &GroundworkPlan) -> Vec<MountOperation> {
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
    if plan.kvm {
        operations.push(device("kvm", true));
    }
    operations.extend(DEVICE_LINKS.map(|(target, points_to)| MountOperation::Symlink {
        target: target.into(),
        points_to: points_to.into(),
    }));
    operations.push(MountOperation::FileSystem {
        target: "/dev/shm".into(),
        kind: FileSystemKind::Tmpfs { size: plan.shared_memory_size.clone() },
    });
    if !plan.is_mapped(&"/dev/pts".into()) {
        operations
            .push(MountOperation::FileSystem { target: "/dev/pts".into(), kind: FileSystemKind::Devpts });
        operations
            .push(MountOperation::Symlink { target: "/dev/ptmx".into(), points_to: "/dev/pts/ptmx".into() });
    }
    operations
}

/// Parents come before what is below them, whatever the order of the settings.
fn sandbox_paths(sandbox: &Sandbox) -> Vec<MountOperation> {
    let mut paths: Vec<_> = mapped_paths(sandbox).collect();
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

/// The paths that the user maps. `/proc` is not the host's in a sandbox, whatever they say.
fn mapped_paths(sandbox: &Sandbox) -> impl Iterator<Item = &SandboxPath> {
    sandbox.paths.iter().filter(|path| path.source.as_bytes() != b"/proc")
}

/// What an operation makes.
fn target(operation: &MountOperation) -> Option<&ByteString> {
    match operation {
        MountOperation::File { target, .. }
        | MountOperation::Symlink { target, .. }
        | MountOperation::FileSystem { target, .. }
        | MountOperation::Bind(Bind { target, .. }) => Some(target),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
