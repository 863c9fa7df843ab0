//! The part of a sandbox that can be made before it is known what will be built in it.

use super::identity::OwnIds;
use super::mount_point::NewRoot;
use super::{process_state, root};
use crate::SetupError;
use crate::mounts::{GroundworkPlan, groundwork_operations};

/// A root directory with what every build finds there, in namespaces that have been made ready.
pub(crate) struct Groundwork {
    pub(super) root: NewRoot,
}

impl Groundwork {
    /// To be called in a process that has just been created, with `privileged` false in a user namespace of its own.
    pub(crate) fn lay(plan: &GroundworkPlan, privileged: bool, ids: OwnIds) -> Result<Self, SetupError> {
        if !privileged {
            ids.map()?;
        }
        process_state::name_host(plan.network)?;
        let root = root::create_root()?;
        root::carry_out(&root, &groundwork_operations(plan), &[])?;
        Ok(Self { root })
    }
}
