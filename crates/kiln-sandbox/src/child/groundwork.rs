//! The part of a sandbox that can be made before it is known what will be built in it.

use super::identity::OwnIds;
use super::mount_point::NewRoot;
use super::{filter, process_state, root};
use crate::mounts::{GroundworkPlan, groundwork_operations};
use crate::seccomp::Filters;
use crate::{Network, SetupError};

/// A root directory with what every build finds there, in namespaces that have been made ready.
pub(crate) struct Groundwork {
    pub(super) root: NewRoot,
    /// Is there the first part of a filter of system calls?
    pub(super) filtered: bool,
}

impl Groundwork {
    /// To be called in a process that has just been created, with `privileged` false in a user namespace of its own.
    /// `new_network`: whether it is in a network namespace that is as new as itself.
    pub(crate) fn lay(
        plan: &GroundworkPlan,
        privileged: bool,
        ids: OwnIds,
        new_network: bool,
        filters: &Filters,
    ) -> Result<Self, SetupError> {
        if !privileged {
            ids.map()?;
        }
        process_state::begin_session()?;
        process_state::name_host(new_network && plan.network == Network::Private)?;
        let root = root::create_root()?;
        root::carry_out(&root, &groundwork_operations(plan), &[])?;
        let filtered = filter::begin(filters, plan.system_calls)?;
        Ok(Self { root, filtered })
    }
}
