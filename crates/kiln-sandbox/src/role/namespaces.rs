//! Which namespaces a build's process is born into.

use kiln_sys::process::Namespaces;

use crate::request::LaunchHeader;

/// What gathers the processes of a build that has no sandbox, with a procfs that shows them. An ordinary user could have
/// that only in a user namespace, where the host's files would seem to belong to nobody: then a reaper does it.
pub(super) fn gathering() -> Namespaces {
    Namespaces::PID | Namespaces::MOUNT
}

/// The namespaces for a build. `gathers`: whether [`gathering`] ones can be had.
pub(super) fn for_build(header: &LaunchHeader, privileged: bool, gathers: bool) -> Namespaces {
    if !header.sandboxed {
        return if gathers { gathering() } else { Namespaces::NONE };
    }
    let mut namespaces = Namespaces::PID | Namespaces::MOUNT | Namespaces::IPC | Namespaces::UTS;
    if header.private_network {
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

    fn header(sandboxed: bool, private_network: bool) -> LaunchHeader {
        LaunchHeader { sandboxed, private_network, cgroup: None, build_user: None }
    }

    #[test]
    fn x2_the_builders_mounts_are_made_outside_its_user_namespace() {
        let root = for_build(&header(true, true), true, true);
        assert!(root.contains(Namespaces::NETWORK) && !root.contains(Namespaces::USER));
        assert!(for_build(&header(true, true), false, false).contains(Namespaces::USER));
        assert!(!for_build(&header(true, false), true, true).contains(Namespaces::NETWORK));
    }

    #[test]
    fn without_a_sandbox_only_processes_are_gathered() {
        assert_eq!(for_build(&header(false, false), true, true), Namespaces::PID | Namespaces::MOUNT);
        assert_eq!(for_build(&header(false, false), true, false), Namespaces::NONE);
    }
}
