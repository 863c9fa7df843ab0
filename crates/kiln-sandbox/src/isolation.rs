//! What a builder is really kept from, as opposed to what was planned.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The isolation that a build got. Printed, it is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Own root directory, with nothing of the host in it but what the plan names.
    pub files: bool,
    /// Own PID namespace: nothing survives the build, nothing else can be seen.
    pub processes: bool,
    /// Own IPC namespace.
    pub ipc: bool,
    /// Own host name.
    pub host_name: bool,
    /// Own network: with nothing but a loopback interface, or connected by a helper that leads to no loopback address of the
    /// host.
    pub network: bool,
    /// Own user namespace, in which nothing but the builder's own IDs exist.
    pub users: bool,
    /// Another user than the engine's.
    pub build_user: bool,
    /// System calls are filtered.
    pub system_calls: bool,
    /// With the host's network: its abstract sockets are out of reach.
    pub abstract_sockets: bool,
    /// No group of the engine's is left.
    pub groups_dropped: bool,
    /// Own cgroup.
    pub cgroup: bool,
}

impl fmt::Display for Isolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aspects = [
            ("files", self.files),
            ("processes", self.processes),
            ("ipc", self.ipc),
            ("host name", self.host_name),
            ("network", self.network),
            ("abstract sockets", self.network || self.abstract_sockets),
            ("user IDs", self.users),
            ("build user", self.build_user),
            ("groups", self.groups_dropped),
            ("system calls", self.system_calls),
            ("cgroup", self.cgroup),
        ];
        let listed = |wanted: bool| {
            let names: Vec<_> =
                aspects.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        write!(formatter, "isolated: {}; not isolated: {}", listed(true), listed(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_that_names_both_sides() {
        let isolation = Isolation { files: true, network: true, ..Isolation::default() };
        assert_eq!(
            isolation.to_string(),
            "isolated: files, network, abstract sockets; not isolated: processes, ipc, host name, user IDs, build user, \
             groups, system calls, cgroup"
        );
        assert!(Isolation::default().to_string().starts_with("isolated: nothing; "));
    }
}
