//! Which namespaces a build's process is born into.

use kiln_sys::process::Namespaces;

use crate::Network;
use crate::request::LaunchHeader;

/// What gathers the processes of a build that has no sandbox, with a procfs that shows them. An ordinary user could have
/// that only in a user namespace, where the host's files would seem to belong to nobody: then a reaper does it.
pub(super) fn gathering() -> Namespaces {
    Namespaces::PID | Namespaces::MOUNT
}

/// The namespaces for a build. `gathers`: whether [`gathering`] ones can be had.
pub(super) fn for_build(header: &LaunchHeader, privileged: bool, gathers: bool) -> Namespaces {
    let Some(groundwork) = &header.groundwork else {
        return if gathers { gathering() } else { Namespaces::NONE };
    };
    of_sandbox(groundwork.network, privileged)
}

/// The namespaces of a sandbox.
///
/// A network that is connected by a helper must belong to a user namespace of the helper's user. Without privileges that is
/// the case anyhow; with them, the build's process makes one.
pub(super) fn of_sandbox(network: Network, privileged: bool) -> Namespaces {
    let mut namespaces = Namespaces::PID | Namespaces::MOUNT | Namespaces::IPC | Namespaces::UTS;
    if network == Network::Private || network == Network::Isolated && !privileged {
        namespaces |= Namespaces::NETWORK;
    }
    if !privileged {
        namespaces |= Namespaces::USER;
    }
    namespaces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x2_the_builders_mounts_are_made_outside_its_user_namespace() {
        let root = of_sandbox(Network::Private, true);
        assert!(root.contains(Namespaces::NETWORK) && !root.contains(Namespaces::USER));
        assert!(of_sandbox(Network::Private, false).contains(Namespaces::USER));
        assert!(!of_sandbox(Network::Host, true).contains(Namespaces::NETWORK));
        assert!(!of_sandbox(Network::Isolated, true).contains(Namespaces::NETWORK));
        assert!(of_sandbox(Network::Isolated, false).contains(Namespaces::NETWORK));
    }

    #[test]
    fn without_a_sandbox_only_processes_are_gathered() {
        let header = LaunchHeader {
            groundwork: None,
            cgroup: None,
            build_user: None,
            cgroup_owner: None,
            helper: None,
        };
        assert_eq!(for_build(&header, true, true), Namespaces::PID | Namespaces::MOUNT);
        assert_eq!(for_build(&header, true, false), Namespaces::NONE);
    }
}
