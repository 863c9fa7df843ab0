//! The names that this program may be called by, and what they make of its command line.
//!
//! Service files, scripts and `ssh-ng://` stores call `nix-daemon` or `nix daemon`. A link of one of these names to this
//! program is `kiln daemon`, down to the shape of its `--version`. A link of the name `nix-store` is `kiln nix-store`, whose
//! command line is not clap's; neither is that of the build hook, which engines call `build-remote` or, as a command,
//! `__build-remote`.

use std::ffi::OsString;
use std::path::Path;

use crate::{build_hook, nix_store};

/// What the program was called as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    /// The command line in words of `kiln`.
    pub(crate) arguments: Vec<OsString>,
    /// The name to tell the version of Nix by, if that was asked for under another name.
    pub(crate) asks_nix_version: Option<&'static str>,
}

impl Role {
    /// The words after the program's name if it is called `nix-store`, by a link of that name or as a command.
    pub(crate) fn nix_store(arguments: &[OsString]) -> Option<&[OsString]> {
        let (name, rest) = arguments.split_first()?;
        match rest.split_first() {
            _ if Path::new(name).file_name().is_some_and(|name| name == nix_store::NAME) => Some(rest),
            Some((command, rest)) if command == nix_store::NAME => Some(rest),
            _ => None,
        }
    }

    /// The words after the program's name if it is called as the build hook.
    pub(crate) fn build_hook(arguments: &[OsString]) -> Option<&[OsString]> {
        let (name, rest) = arguments.split_first()?;
        match rest.split_first() {
            _ if Path::new(name).file_name().is_some_and(|name| name == build_hook::NAME) => Some(rest),
            Some((command, rest)) if command == build_hook::COMMAND => Some(rest),
            _ => None,
        }
    }

    /// The role that a command line means.
    pub(crate) fn of(arguments: &[OsString]) -> Self {
        let name =
            arguments.first().and_then(|name| Path::new(name).file_name()).and_then(|name| name.to_str());
        let (called, rest) = match (name, arguments.get(1).and_then(|word| word.to_str())) {
            (Some("nix-daemon"), _) => ("nix-daemon", arguments.get(1..)),
            (Some("nix"), Some("daemon")) => ("nix", arguments.get(2..)),
            (Some("nix"), Some("--version")) => ("nix", arguments.get(1..)),
            _ => return Self { arguments: arguments.to_vec(), asks_nix_version: None },
        };
        let rest = rest.unwrap_or_default();
        let asks = rest.iter().any(|word| word == "--version").then_some(called);
        let words = ["kiln", "daemon"].map(OsString::from);
        Self { arguments: words.into_iter().chain(rest.iter().cloned()).collect(), asks_nix_version: asks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(line: &str) -> (String, Option<&'static str>) {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let role = Role::of(&arguments);
        let words: Vec<&str> = role.arguments.iter().map(|word| word.to_str().unwrap()).collect();
        (words.join(" "), role.asks_nix_version)
    }

    #[test]
    fn nix_store_has_a_command_line_of_its_own() {
        let words = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            Role::nix_store(&arguments).map(|words| words.join(std::ffi::OsStr::new(" ")))
        };
        assert_eq!(words("/usr/bin/nix-store -q --size x"), Some("-q --size x".into()));
        assert_eq!(words("kiln nix-store --help"), Some("--help".into()));
        assert_eq!(words("nix-store"), Some("".into()));
        for other in ["kiln", "kiln build nix-store", "kiln -v nix-store -q", "nix-daemon nix-stores"] {
            assert_eq!(words(other), None);
        }
    }

    #[test]
    fn h5_engines_call_the_build_hook_by_two_names() {
        let words = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            Role::build_hook(&arguments).map(|words| words.join(std::ffi::OsStr::new(" ")))
        };
        assert_eq!(words("kiln __build-remote 3"), Some("3".into()));
        assert_eq!(words("/libexec/nix/build-remote 3"), Some("3".into()));
        for other in ["kiln", "kiln build __build-remote", "nix-store build-remote"] {
            assert_eq!(words(other), None);
        }
    }

    #[test]
    fn names_of_nix_mean_the_daemon() {
        let daemon = |rest: &str| (format!("kiln daemon{rest}"), None);
        assert_eq!(role("/usr/bin/nix-daemon"), daemon(""));
        assert_eq!(role("nix-daemon --daemon"), daemon(" --daemon"));
        assert_eq!(role("nix daemon --stdio -v"), daemon(" --stdio -v"));
        assert_eq!(role("nix-daemon --version"), ("kiln daemon --version".to_owned(), Some("nix-daemon")));
        assert_eq!(role("nix daemon --version").1, Some("nix"));
        assert_eq!(role("nix --version").1, Some("nix"));
        for other in ["kiln build x", "kiln --version", "/opt/kiln daemon --version", "nix build x", "nix"] {
            assert_eq!(role(other), (other.to_owned(), None));
        }
    }
}
