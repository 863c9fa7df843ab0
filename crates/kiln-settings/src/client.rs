//! What a client of the daemon may change, for its own connection only.
//!
//! A trusted client may set what the table calls [`Scope::Trusted`] or less. Others may set only what concerns nobody
//! else, and some settings only to harmless values: `builders` only to nothing, `max-jobs` only to less than the daemon
//! has, `substituters` only to some that the daemon uses or that `trusted-substituters` names. What is refused is
//! reported, never an error.

use crate::configuration::resolve;
use crate::job_limit::MaxJobs;
use crate::table::{Scope, Setting, Settings};
use crate::unused::{is_evaluator_setting, without_effect};
use crate::value::{ValueError, words};

/// Whether the daemon trusts a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is as good as root.
    Trusted,
    /// It is some user.
    Untrusted,
}

/// Why a client's wish was not, or not wholly, fulfilled; the text is for the client, as a warning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only trusted clients may set this, or set it so.
    #[error(
        "ignoring the client-specified setting '{0}', because it is a restricted setting and you are not a trusted user"
    )]
    Restricted(String),
    /// No client may set this.
    #[error(
        "ignoring the client-specified setting '{0}', because it can only be set in the configuration of the daemon"
    )]
    SystemOnly(&'static str),
    /// A substituter that the daemon doesn't trust.
    #[error(
        "ignoring untrusted substituter '{0}', you are not a trusted user.\nRun `man nix.conf` for more information on \
         the `substituters` configuration option."
    )]
    UntrustedSubstituter(String),
    /// The setting can't have this value.
    #[error("setting '{name}' has invalid value '{value}': {reason}")]
    Invalid {
        /// The setting's name.
        name: &'static str,
        /// The value as the client sent it.
        value: String,
        /// What was expected.
        reason: ValueError,
    },
    /// The setting does nothing here.
    #[error("setting '{0}' has no effect in Kiln")]
    NoEffect(&'static str),
}

/// Applies one wish of a client to the settings of its connection.
///
/// `daemon` are the settings that the daemon has for itself, `cpus` the number of processors. Returns what is to be
/// told to the client; names that nobody knows and those that only concern evaluation are passed over in silence.
pub fn apply_override(
    settings: &mut Settings,
    daemon: &Settings,
    trust: Trust,
    cpus: u64,
    name: &str,
    value: &str,
) -> Vec<Refusal> {
    let Some((setting, adds)) = resolve(name) else {
        return match without_effect(name) {
            Some(name) if trust == Trust::Trusted => vec![Refusal::NoEffect(name)],
            Some(name) => vec![Refusal::Restricted(name.to_owned())],
            None => Vec::new(),
        };
    };
    match (setting.scope, trust) {
        // Clients send them whenever they have any: how the client itself works, and how it got here.
        (Scope::System, _) if matches!(setting.name, "experimental-features" | "store") => Vec::new(),
        (Scope::System, Trust::Trusted) => vec![Refusal::SystemOnly(setting.name)],
        (Scope::System | Scope::Trusted, Trust::Untrusted) => vec![Refusal::Restricted(name.to_owned())],
        // An untrusted client has to say what it means: no aliases, and no adding to what it cannot see.
        (_, Trust::Untrusted) if name != setting.name => vec![Refusal::Restricted(name.to_owned())],
        (Scope::Limited, Trust::Untrusted) => limited(settings, daemon, cpus, setting, value),
        (Scope::Anyone, _) | (Scope::Limited | Scope::Trusted, Trust::Trusted) => {
            set(settings, setting, adds, value).err().into_iter().collect()
        }
    }
}

/// Whether a name is worth a word to the client; for daemons that log what they pass over.
#[must_use]
pub fn is_known(name: &str) -> bool {
    resolve(name).is_some() || without_effect(name).is_some() || is_evaluator_setting(name)
}

fn set(settings: &mut Settings, setting: &'static Setting, adds: bool, value: &str) -> Result<(), Refusal> {
    let outcome = if adds {
        setting.append(settings, value).unwrap_or(Ok(()))
    } else {
        setting.assign(settings, value)
    };
    outcome.map_err(|reason| Refusal::Invalid { name: setting.name, value: value.to_owned(), reason })
}

/// The harmless values of limited settings, for clients that aren't trusted.
fn limited(
    settings: &mut Settings,
    daemon: &Settings,
    cpus: u64,
    setting: &'static Setting,
    value: &str,
) -> Vec<Refusal> {
    match setting.name {
        "builders" if value.is_empty() => set(settings, setting, false, value).err().into_iter().collect(),
        "max-jobs" => {
            let mut wanted = settings.clone();
            if let Err(refusal) = set(&mut wanted, setting, false, value) {
                return vec![refusal];
            }
            settings.max_jobs = capped(wanted.max_jobs, daemon.max_jobs, cpus);
            Vec::new()
        }
        "substituters" => {
            let (trusted, others): (Vec<String>, Vec<String>) =
                words(value).map(str::to_owned).partition(|url| is_trusted_substituter(daemon, url));
            settings.substituters = trusted;
            others.into_iter().map(Refusal::UntrustedSubstituter).collect()
        }
        _ => vec![Refusal::Restricted(setting.name.to_owned())],
    }
}

fn capped(wanted: MaxJobs, limit: MaxJobs, cpus: u64) -> MaxJobs {
    if wanted.resolve(cpus) <= limit.resolve(cpus) { wanted } else { limit }
}

fn is_trusted_substituter(daemon: &Settings, url: &str) -> bool {
    let knows = |url: &str| {
        daemon.trusted_substituters.contains(url) || daemon.substituters.iter().any(|known| known == url)
    };
    knows(url) || knows(&format!("{url}/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::table::TABLE;

    fn daemon() -> Settings {
        let mut settings = Settings::defaults(&Machine::plain("x86_64-linux"));
        settings.max_jobs = MaxJobs::Count(4);
        settings.trusted_substituters.insert("https://t/".to_owned());
        settings
    }

    fn apply(trust: Trust, name: &str, value: &str) -> (Settings, Vec<String>) {
        let daemon = daemon();
        let mut settings = daemon.clone();
        let refusals = apply_override(&mut settings, &daemon, trust, 8, name, value);
        (settings, refusals.iter().map(ToString::to_string).collect())
    }

    /// Whatever an untrusted client sends, only these settings can change.
    #[test]
    fn s57_untrusted_clients_change_what_is_theirs() {
        let mut changed = Vec::new();
        for setting in TABLE {
            let names = [setting.name.to_owned(), format!("extra-{}", setting.name)];
            let names = names.into_iter().chain(setting.aliases.iter().map(|alias| (*alias).to_owned()));
            for name in names {
                for value in ["", "0", "1", "77", "true", "false", "auto", "/x", "https://cache.nixos.org"] {
                    if apply(Trust::Untrusted, &name, value).0 != daemon() {
                        changed.push(name.clone());
                        break;
                    }
                }
            }
        }
        assert_eq!(
            changed,
            [
                "build-poll-interval",
                "builders",
                "connect-timeout",
                "cores",
                "fallback",
                "keep-failed",
                "keep-going",
                "max-jobs",
                "max-silent-time",
                "substitute",
                "substituters",
                "timeout"
            ]
        );
    }

    #[test]
    fn s57_limited_values() {
        let untrusted = |name, value| apply(Trust::Untrusted, name, value);
        assert_eq!(untrusted("max-jobs", "2").0.max_jobs, MaxJobs::Count(2));
        assert_eq!(untrusted("max-jobs", "5").0.max_jobs, MaxJobs::Count(4));
        assert_eq!(untrusted("max-jobs", "auto").0.max_jobs, MaxJobs::Count(4));
        assert_eq!(untrusted("builders", "").0.builders, "");
        let (settings, refusals) = untrusted("builders", "ssh://evil");
        assert_eq!((settings, refusals.len()), (daemon(), 1));
        let (settings, refusals) =
            untrusted("substituters", "https://cache.nixos.org https://evil https://t/");
        assert_eq!(settings.substituters, ["https://cache.nixos.org", "https://t/"]);
        assert_eq!(refusals.len(), 1);
        assert!(
            refusals[0]
                .starts_with("ignoring untrusted substituter 'https://evil', you are not a trusted user.")
        );
    }

    #[test]
    fn refusals_are_worded_like_nix() {
        let restricted = "ignoring the client-specified setting 'build-timeout', because it is a restricted setting and \
                          you are not a trusted user";
        assert_eq!(apply(Trust::Untrusted, "build-timeout", "1").1, [restricted]);
        assert_eq!(apply(Trust::Untrusted, "pure-eval", "1"), (daemon(), vec![]));
        assert_eq!(apply(Trust::Untrusted, "unheard-of", "1"), (daemon(), vec![]));
        assert_eq!(apply(Trust::Trusted, "unheard-of", "1"), (daemon(), vec![]));
        assert_eq!(apply(Trust::Trusted, "experimental-features", "x"), (daemon(), vec![]));
        assert_eq!(apply(Trust::Trusted, "store", "unix:///x"), (daemon(), vec![]));
        let (settings, refusals) = apply(Trust::Trusted, "sandbox", "maybe");
        assert_eq!(settings, daemon());
        assert!(refusals[0].starts_with("setting 'sandbox' has invalid value 'maybe'"));
    }

    #[test]
    fn trusted_clients_set_all_but_the_daemons_own() {
        for setting in TABLE {
            let changed = ["", "0", "7", "true", "false", "auto", "relaxed", "host", "/x"]
                .iter()
                .any(|value| apply(Trust::Trusted, setting.name, value).0 != daemon());
            assert_eq!(changed, setting.scope != Scope::System, "{}", setting.name);
        }
        assert_eq!(apply(Trust::Trusted, "build-timeout", "9").0.timeout, 9);
        assert_eq!(apply(Trust::Trusted, "extra-substituters", "https://x").0.substituters.len(), 2);
    }
}
