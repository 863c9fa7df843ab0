//! URLs of machines whose store is reached by ssh (serve-protocol specification, "ssh command lines").

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::machines::is_base64;
use crate::store_url::{StoreUrlError, decode, encode, with_query};
use crate::value::{ValueError, truth};

/// What is spoken through ssh, and with which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshProtocol {
    /// `ssh-ng://`: the worker protocol, with a daemon.
    Worker,
    /// `ssh://`: the serve protocol, with `nix-store --serve`.
    Serve,
}

impl SshProtocol {
    /// That of a URL, and what is after its scheme.
    pub(crate) fn of(base: &str) -> Option<(Self, &str)> {
        [Self::Worker, Self::Serve]
            .into_iter()
            .find_map(|protocol| Some((protocol, base.strip_prefix(protocol.scheme())?)))
    }

    /// What is before the machine's name.
    const fn scheme(self) -> &'static str {
        match self {
            Self::Worker => "ssh-ng://",
            Self::Serve => "ssh://",
        }
    }

    /// The program that a machine runs if the URL names no other.
    const fn usual_program(self) -> &'static str {
        match self {
            Self::Worker => "nix-daemon",
            Self::Serve => "nix-store",
        }
    }
}

/// The store of a machine that is reached by ssh: `ssh-ng://[USER@]HOST[:PORT]` or `ssh://[USER@]HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshUrl {
    /// What is spoken with it.
    pub protocol: SshProtocol,
    /// Who logs in there, if ssh's own settings don't say.
    pub user: Option<String>,
    /// The machine, by any name that ssh knows; an IPv6 address is without its brackets.
    pub host: String,
    /// Where its server listens, if ssh's own settings don't say.
    pub port: Option<u16>,
    /// `ssh-key`: the file of the private key to log in with.
    pub key: Option<PathBuf>,
    /// `base64-ssh-public-host-key`: the machine's public key, as a line such as `ssh-ed25519 AAAA…`, once more in base64; then
    /// no other is accepted.
    pub host_key: Option<String>,
    /// `compress`: whether ssh compresses what goes both ways.
    pub compress: bool,
    /// `remote-program`: the program there, by words.
    pub remote_program: Vec<String>,
    /// `remote-store`: the URL of the store that the program there is to serve, if it isn't its usual one.
    pub remote_store: Option<String>,
    /// Other parameters, those of every daemon's URL among them; decoded, not interpreted.
    pub other: BTreeMap<String, OsString>,
}

impl SshUrl {
    /// The machine that a URL names, whose part between scheme and parameters is `place`.
    pub(crate) fn new(
        url: &str,
        (protocol, place): (SshProtocol, &str),
        mut parameters: BTreeMap<String, OsString>,
    ) -> Result<Self, StoreUrlError> {
        let bad_host = || StoreUrlError::Host(url.to_owned());
        let place = decode(url, place, protocol.scheme().len())?.into_string().map_err(|_| bad_host())?;
        let place = place.trim_end_matches('/');
        let (user, address) = match place.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, place),
        };
        let (host, port) = host_and_port(address).ok_or_else(bad_host)?;
        if !user.into_iter().chain([host]).all(is_word) {
            return Err(bad_host());
        }
        let port = port.map(|port| port.parse().map_err(|_| bad_host())).transpose()?;
        let key = parameters.remove("ssh-key").filter(|key| !key.is_empty()).map(PathBuf::from);
        let mut value = |name: &str| {
            let text = parameters.remove(name).map(|text| text.to_string_lossy().into_owned());
            text.filter(|text| !text.trim_ascii().is_empty())
        };
        let invalid = |parameter: &str, expected: &str| StoreUrlError::Value {
            url: url.to_owned(),
            parameter: parameter.to_owned(),
            reason: ValueError(expected.to_owned()),
        };
        let host_key = value("base64-ssh-public-host-key");
        if host_key.as_deref().is_some_and(|key| !is_base64(key)) {
            return Err(invalid("base64-ssh-public-host-key", "base64"));
        }
        let compress = match value("compress") {
            Some(text) => truth(&text).ok_or_else(|| invalid("compress", "true or false"))?,
            None => false,
        };
        let program = value("remote-program").unwrap_or_else(|| protocol.usual_program().to_owned());
        Ok(Self {
            protocol,
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            key,
            host_key,
            compress,
            remote_program: program.split_ascii_whitespace().map(str::to_owned).collect(),
            remote_store: value("remote-store"),
            other: parameters,
        })
    }

    /// The URL without parameters, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        let user = self.user.as_ref().map(|user| encode(user.as_bytes(), false) + "@").unwrap_or_default();
        let host = encode(self.host.as_bytes(), false);
        let host = if self.host.contains(':') { format!("[{}]", host.replace("%3A", ":")) } else { host };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{user}{host}{port}", self.protocol.scheme())
    }

    /// The URL; parsing it gives the same machine.
    pub(crate) fn render(&self) -> String {
        let mut parameters = self.other.clone();
        let mut add = |name: &str, value: Option<OsString>| {
            parameters.extend(value.map(|value| (name.to_owned(), value)));
        };
        add("ssh-key", self.key.as_ref().map(|key| key.as_os_str().to_owned()));
        add("base64-ssh-public-host-key", self.host_key.clone().map(Into::into));
        add("compress", self.compress.then(|| "true".into()));
        let program = self.remote_program.join(" ");
        add("remote-program", (program != self.protocol.usual_program()).then(|| program.into()));
        add("remote-store", self.remote_store.clone().map(Into::into));
        with_query(&self.name(), &parameters)
    }
}

/// Takes an address apart, such as `host`, `host:22`, `[::1]` or `[::1]:22`.
fn host_and_port(address: &str) -> Option<(&str, Option<&str>)> {
    let (host, rest) = match address.strip_prefix('[') {
        Some(address) => address.split_once(']')?,
        None => match address.split_once(':') {
            // What has several colons and no brackets is an address, as Nix has it.
            Some((_, rest)) if rest.contains(':') => (address, ""),
            Some((host, _)) => (host, address.get(host.len()..)?),
            None => (address, ""),
        },
    };
    match rest {
        "" => Some((host, None)),
        rest => Some((host, Some(rest.strip_prefix(':')?))),
    }
}

/// Whether ssh can take a text for nothing but a user or a host: no option, no command, and no user within a host.
fn is_word(text: &str) -> bool {
    let is_bad = |c: char| c.is_control() || c.is_whitespace() || "@/\\'\"`$;&|<>()[]{}*?!#~".contains(c);
    !text.is_empty() && !text.starts_with('-') && !text.contains(is_bad)
}

#[cfg(test)]
mod tests {
    use crate::StoreUrl;

    use super::*;

    fn parse(url: &str) -> Result<SshUrl, String> {
        match StoreUrl::parse(url) {
            Ok(StoreUrl::Ssh(ssh)) => Ok(ssh),
            Ok(other) => panic!("{url} is {other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn users_hosts_and_ports() {
        for (url, user, host, port) in [
            ("ssh-ng://host", None, "host", None),
            ("ssh-ng://host/", None, "host", None),
            ("ssh-ng://me@host.example:2222", Some("me"), "host.example", Some(2222)),
            ("ssh-ng://[fe80::1%25eth0]:22", None, "fe80::1%eth0", Some(22)),
            ("ssh-ng://me@::1", Some("me"), "::1", None),
            ("ssh://me@host:2222", Some("me"), "host", Some(2222)),
        ] {
            let parsed = parse(url).unwrap();
            let found = (parsed.user.as_deref(), parsed.host.as_str(), parsed.port);
            assert_eq!(found, (user, host, port), "{url}");
            assert_eq!(parse(&parsed.render()), Ok(parsed), "{url}");
        }
    }

    #[test]
    fn what_ssh_could_take_for_something_else_is_no_host() {
        for url in [
            "ssh-ng://",
            "ssh-ng://-oProxyCommand=x",
            "ssh-ng://%2doProxyCommand=x",
            "ssh-ng://-l@host",
            "ssh-ng://a b",
            "ssh-ng://a%0ab",
            "ssh-ng://a@b@c",
            "ssh-ng://host:port",
            "ssh-ng://host:99999",
            "ssh-ng://[::1",
            "ssh-ng://[::1]x",
            "ssh-ng://$(x)",
            "ssh-ng://h%ff",
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains("expected ssh-ng://[USER@]HOST[:PORT]"), "{error}");
            assert!(parse(&url.replace("ssh-ng", "ssh")).is_err(), "{url}");
        }
    }

    #[test]
    fn parameters_are_those_of_nix() {
        let url = "ssh-ng://host?base64-ssh-public-host-key=c3No&compress=true&max-connections=2&remote-program=a%20b\
                   &remote-store=/r%20s&ssh-key=/k";
        let parsed = parse(url).unwrap();
        assert_eq!(parsed.remote_program, ["a", "b"]);
        assert_eq!((parsed.remote_store.as_deref(), parsed.compress), (Some("/r s"), true));
        assert_eq!((parsed.key.clone(), parsed.host_key.as_deref()), (Some("/k".into()), Some("c3No")));
        assert_eq!(parsed.other.keys().collect::<Vec<_>>(), ["max-connections"]);
        assert_eq!(parsed.render(), url);
        for url in ["ssh-ng://host", "ssh-ng://host?remote-program=", "ssh-ng://host?remote-program=%20"] {
            assert_eq!(parse(url).unwrap().remote_program, ["nix-daemon"], "{url}");
        }
        let older = parse("ssh://host").unwrap();
        assert_eq!(
            (older.protocol, older.remote_program),
            (SshProtocol::Serve, vec!["nix-store".to_owned()])
        );
        assert!(parse("ssh-ng://host?compress=much").unwrap_err().contains("'compress'"));
        assert!(parse("ssh-ng://host?base64-ssh-public-host-key=%40").unwrap_err().contains("base64"));
    }
}
