//! How files are transferred.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The settings of transfers. Their names are those in `nix.conf`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferSettings {
    /// `connect-timeout`: how long making a connection may take, TLS and all; 0 for any time.
    pub connect_timeout: Duration,
    /// `stalled-download-timeout`: after how long a transfer is given up that brings less than a byte a second; 0 for
    /// never.
    pub stalled_download_timeout: Duration,
    /// `download-attempts`: how often a transfer is tried in all; at least once.
    pub download_attempts: u32,
    /// `user-agent-suffix`: what is added to the name by which servers know the program; may be empty.
    pub user_agent_suffix: String,
    /// `http2`: whether servers are offered HTTP/2.
    pub http2: bool,
    /// Through whom connections go.
    pub proxies: Proxies,
}

impl Default for TransferSettings {
    /// Nix's defaults, without proxies.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            stalled_download_timeout: Duration::from_secs(300),
            download_attempts: 5,
            user_agent_suffix: String::new(),
            http2: true,
            proxies: Proxies::default(),
        }
    }
}

/// How much is put up with until a download is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often it is tried in all; at least once.
    pub attempts: u32,
    /// How long too little may come; 0 for ever.
    pub stalled: Duration,
    /// How many bytes a second are too little, if there are less.
    pub slowest: u64,
    /// The time that there is for all of it, the other tries and the waits between them included; without it, any.
    pub within: Option<Duration>,
}

impl Patience {
    /// As the settings have it.
    #[must_use]
    pub fn of(settings: &TransferSettings) -> Self {
        Self {
            attempts: settings.download_attempts,
            stalled: settings.stalled_download_timeout,
            slowest: 1,
            within: None,
        }
    }
}

/// The proxies that connections go through, as curl's variables have them: URLs with scheme `http`, `https`, `socks5` or
/// `socks5h` and perhaps a user and a password. An empty text is as good as none.
///
/// Whoever names the proxy sees what goes through it, so these have to come from the environment of the daemon, not from
/// the derivation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// For `http` URLs (`http_proxy`).
    pub http: String,
    /// For `https` URLs (`https_proxy`).
    pub https: String,
    /// For those of which neither of the two says anything (`all_proxy`).
    pub all: String,
    /// Hosts, domains and networks that are reached without a proxy, with commas in between; `*` for all (`no_proxy`).
    pub none: String,
}

impl Proxies {
    /// The proxies that an environment names. `variable` gives the value of a variable. The names in small letters win;
    /// `HTTP_PROXY` is not looked at, since a web server may have set it from what a stranger said.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name)).unwrap_or_default();
        Self {
            http: first(&["http_proxy"]),
            https: first(&["https_proxy", "HTTPS_PROXY"]),
            all: first(&["all_proxy", "ALL_PROXY"]),
            none: first(&["no_proxy", "NO_PROXY"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b11_proxies_of_an_environment() {
        let proxies = Proxies::from_environment(|name| match name {
            "HTTP_PROXY" => Some("http://evil".to_owned()),
            "https_proxy" => Some("http://small".to_owned()),
            "HTTPS_PROXY" => Some("http://capital".to_owned()),
            "NO_PROXY" => Some("localhost".to_owned()),
            _ => None,
        });
        let expected =
            Proxies { https: "http://small".into(), none: "localhost".into(), ..Proxies::default() };
        assert_eq!(proxies, expected);
    }
}
