//! What a machine offers for isolating builds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A means of isolation that a machine may have or lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Capability {
    /// User namespaces, for the user that the engine runs as.
    UserNamespace,
    /// PID namespaces.
    PidNamespace,
    /// Mount namespaces, and mounting by descriptor (Linux 5.12).
    MountNamespace,
    /// A procfs of one's own.
    Procfs,
    /// A devpts of one's own.
    Devpts,
    /// IPC and UTS namespaces.
    IpcAndHostName,
    /// Network namespaces.
    NetworkNamespace,
    /// System-call filters.
    SystemCallFilter,
    /// Landlock's scope for abstract sockets (Linux 6.12).
    LandlockScope,
    /// A cgroup (version 2) hierarchy that may be written to.
    Cgroup,
}

impl Capability {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user namespaces",
            Self::PidNamespace => "PID namespaces",
            Self::MountNamespace => "mount namespaces",
            Self::Procfs => "own procfs",
            Self::Devpts => "own devpts",
            Self::IpcAndHostName => "IPC and UTS namespaces",
            Self::NetworkNamespace => "network namespaces",
            Self::SystemCallFilter => "system call filter",
            Self::LandlockScope => "landlock scopes",
            Self::Cgroup => "cgroup v2",
        }
    }
}

/// What a sandbox can't do without.
const ESSENTIAL: [Capability; 6] = [
    Capability::PidNamespace,
    Capability::MountNamespace,
    Capability::Procfs,
    Capability::Devpts,
    Capability::IpcAndHostName,
    Capability::NetworkNamespace,
];

/// The result of trying each capability by itself. Printed, it is a table with a line for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Each with the reason why it is lacking, or none.
    pub(crate) found: Vec<(Capability, Option<String>)>,
    /// Were they tried by root?
    pub(crate) privileged: bool,
}

impl Capabilities {
    /// Is this capability there?
    pub fn has(&self, capability: Capability) -> bool {
        self.found.iter().any(|(found, reason)| *found == capability && reason.is_none())
    }

    /// Each capability that was tried, with the reason why it is lacking if it is.
    pub fn found(&self) -> impl Iterator<Item = (Capability, Option<&str>)> {
        self.found.iter().map(|(capability, reason)| (*capability, reason.as_deref()))
    }

    /// Whether a sandbox cannot do without it.
    #[must_use]
    pub fn is_essential(capability: Capability) -> bool {
        ESSENTIAL.contains(&capability)
    }

    /// Can builds be sandboxed here at all?
    ///
    /// # Errors
    ///
    /// What is lacking and why, and what can be done about it.
    pub fn sandbox_supported(&self) -> Result<(), String> {
        let lacking = self.found.iter().find_map(|(found, reason)| {
            Some((found, reason.as_ref()?)).filter(|_| ESSENTIAL.contains(found))
        });
        let Some((capability, reason)) = lacking else { return Ok(()) };
        let way_out = if self.privileged {
            "the kernel or a container around this machine forbids it"
        } else {
            "allow user namespaces for ordinary users (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns), or use a daemon that runs as root"
        };
        Err(format!(
            "this machine cannot sandbox builds, because it lacks {}: {reason}; {way_out}; or accept builds without a \
             sandbox by 'sandbox-fallback = true'",
            capability.name()
        ))
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (capability, reason) in &self.found {
            let answer = reason.as_ref().map_or("yes".to_owned(), |reason| format!("no: {reason}"));
            writeln!(formatter, "{:<24} {answer}", capability.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(capability: Capability) -> Capabilities {
        Capabilities {
            found: vec![
                (Capability::UserNamespace, None),
                (capability, Some("Operation not permitted".to_owned())),
            ],
            privileged: false,
        }
    }

    #[test]
    fn what_is_essential_decides_and_the_reason_and_a_way_out_are_named() {
        let error = lacking(Capability::PidNamespace).sandbox_supported().unwrap_err();
        assert!(error.contains("it lacks PID namespaces: Operation not permitted;"), "{error}");
        assert!(error.contains("user.max_user_namespaces") && error.contains("sandbox-fallback"), "{error}");
        assert_eq!(lacking(Capability::LandlockScope).sandbox_supported(), Ok(()));
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let table = lacking(Capability::Cgroup).to_string();
        assert_eq!(
            table,
            "user namespaces          yes\ncgroup v2                no: Operation not permitted\n"
        );
    }
}
