//! The part of every sandbox that is the same whatever is built in it.

use std::os::fd::OwnedFd;

use super::identity::OwnIds;
use super::mount_point::NewRoot;
use super::{process_state, root};
use crate::mounts::FileSystemKind;
use crate::{Network, SetupError};

/// An empty root directory, and file systems that will be mounted in it, in namespaces that have been made ready.
pub(crate) struct Groundwork {
    pub(super) root: NewRoot,
    pub(super) file_systems: Vec<(FileSystemKind, OwnedFd)>,
}

impl Groundwork {
    /// To be called in a process that has just been created, with `privileged` false in a user namespace of its own.
    pub(crate) fn lay(privileged: bool, ids: OwnIds, network: Network) -> Result<Self, SetupError> {
        if !privileged {
            ids.map()?;
        }
        process_state::name_host(network)?;
        let root = root::create_root()?;
        // One that can't be made is an error only if it is wanted, and will be tried again then.
        let wanted = [FileSystemKind::Proc, FileSystemKind::Devpts].into_iter();
        let file_systems = wanted.filter_map(|kind| Some((kind.clone(), root::new_file_system(&kind).ok()?)));
        Ok(Self { root, file_systems: file_systems.collect() })
    }
}
