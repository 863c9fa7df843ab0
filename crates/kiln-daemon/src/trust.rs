//! How far a client is trusted: the one place that decides it, from what the kernel says of its process.

use std::ffi::{CStr, CString};

use kiln_settings::Settings;
use kiln_settings::client::Trust;
use kiln_sys::accounts::{group_by_name, groups_of_user, name_of_user};
use rustix::io::Errno;

/// What decides whether a client is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustRule {
    /// The settings `trusted-users` and `allowed-users`.
    #[default]
    Settings,
    /// All clients are trusted (`--force-trusted`).
    Everybody,
    /// No client is trusted (`--force-untrusted`).
    Nobody,
}

/// The user that a client runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    /// The number, if the user has no name.
    pub(crate) name: String,
    groups: Vec<u32>,
    primary_group: u32,
}

impl Account {
    /// What is known of the user. Asks the system's name services, which may take a while.
    ///
    /// # Errors
    /// They do not answer.
    pub(crate) fn look_up(uid: u32, gid: u32) -> Result<Self, Errno> {
        let name = name_of_user(uid)?;
        let groups = match &name {
            Some(name) => groups_of_user(name, gid)?,
            None => vec![gid],
        };
        let name = name.map_or_else(|| uid.to_string(), |name| name.to_string_lossy().into_owned());
        Ok(Self { uid, name, groups, primary_group: gid })
    }

    /// Whether one of these words of a setting means this user: `*`, a name, or `@GROUP`.
    ///
    /// # Errors
    /// The name services do not answer.
    fn is_among(
        &self,
        words: &[String],
        group: impl Fn(&CStr) -> Result<Option<u32>, Errno>,
    ) -> Result<bool, Errno> {
        for word in words {
            let is_meant = match word.strip_prefix('@') {
                _ if word == "*" => true,
                Some(name) => {
                    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
                    group(&name)?.is_some_and(|gid| self.groups.contains(&gid) || self.primary_group == gid)
                }
                None => *word == self.name,
            };
            if is_meant {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How far the settings trust this user; `None` if it may not use the daemon at all. Asks the name services.
    ///
    /// # Errors
    /// They do not answer. Then nobody knows, and the answer has to be no.
    pub(crate) fn trust(&self, settings: &Settings) -> Result<Option<Trust>, Errno> {
        self.trust_by(settings, |name| Ok(group_by_name(name)?.map(|group| group.gid)))
    }

    fn trust_by(
        &self,
        settings: &Settings,
        group: impl Fn(&CStr) -> Result<Option<u32>, Errno>,
    ) -> Result<Option<Trust>, Errno> {
        // A builder that got hold of the socket is no client.
        if !settings.build_users_group.is_empty() {
            let builders = CString::new(settings.build_users_group.as_str()).map_err(|_| Errno::INVAL)?;
            if group(&builders)? == Some(self.primary_group) {
                return Ok(None);
            }
        }
        if self.is_among(&settings.trusted_users, &group)? {
            return Ok(Some(Trust::Trusted));
        }
        Ok(self.is_among(&settings.allowed_users, &group)?.then_some(Trust::Untrusted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_settings::Machine;

    /// Alice, a member of the groups 100 (primary) and 27 (wheel).
    fn alice() -> Account {
        Account { uid: 1000, name: "alice".into(), groups: vec![100, 27], primary_group: 100 }
    }

    fn trust(account: &Account, trusted: &[&str], allowed: &[&str]) -> Option<Trust> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let settings = Settings {
            trusted_users: words(trusted),
            allowed_users: words(allowed),
            build_users_group: "nixbld".to_owned(),
            ..Settings::defaults(&Machine::plain("x86_64-linux"))
        };
        let group = |name: &CStr| {
            Ok(match name.to_bytes() {
                b"wheel" => Some(27),
                b"users" => Some(100),
                b"nixbld" => Some(30_000),
                b"other" => Some(5),
                _ => None,
            })
        };
        account.trust_by(&settings, group).unwrap()
    }

    #[test]
    fn words_are_users_groups_or_everybody() {
        use Trust::{Trusted, Untrusted};
        assert_eq!(trust(&alice(), &["root"], &["*"]), Some(Untrusted));
        for trusted in ["alice", "@wheel", "@users", "*"] {
            assert_eq!(trust(&alice(), &["root", trusted], &[]), Some(Trusted), "trusted are always allowed");
            assert_eq!(trust(&alice(), &["root"], &[trusted]), Some(Untrusted));
        }
        for other in ["ALICE", "wheel", "@other", "@nobody-knows", "1000", ""] {
            assert_eq!(trust(&alice(), &["root", other], &[other]), None, "{other}");
        }
    }

    #[test]
    fn build_users_are_nobodys_clients() {
        let builder =
            Account { uid: 30_001, name: "nixbld1".into(), groups: vec![30_000], primary_group: 30_000 };
        assert_eq!(trust(&builder, &["*"], &["*"]), None);
        let member = Account { groups: vec![100, 30_000], ..alice() };
        assert_eq!(trust(&member, &["*"], &["*"]), Some(Trust::Trusted), "the primary group counts");
    }
}
