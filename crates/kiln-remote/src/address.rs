//! Where a daemon is, and what the parameters of its URL say.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kiln_settings::{SshUrl, truth};
use kiln_store_path::StoreDir;

/// Connections at once, if the URL doesn't say how many. Each is a process of a real daemon.
const CONNECTIONS: usize = 4;

/// The most connections at once.
const MOST_CONNECTIONS: usize = 256;

/// Connections by ssh at once, if the URL doesn't say how many. Each logs in anew.
const CONNECTIONS_BY_SSH: usize = 1;

/// How a daemon is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonPlace {
    /// By its socket on this machine.
    Socket(PathBuf),
    /// On another machine, where it is started for each connection.
    Ssh {
        /// The machine, and what is run there.
        machine: Box<SshUrl>,
        /// Further arguments for ssh, those of the variable `NIX_SSHOPTS`.
        options: Vec<String>,
    },
    /// A program of this machine that serves the client at its standard input and output.
    Program {
        /// The program, and its arguments.
        words: Vec<OsString>,
        /// Variables that it gets besides those of this process.
        variables: Vec<(OsString, OsString)>,
    },
}

/// A daemon and the store that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonAddress {
    /// Where it is.
    pub place: DaemonPlace,
    /// What the paths of its store begin with. The protocol has no question for that.
    pub store_dir: StoreDir,
    /// `max-connections`: how many connections there are at once.
    pub max_connections: usize,
    /// `priority`: its place among substituters, lowest first.
    pub priority: i64,
    /// `trusted`: its paths need no signatures when it is a substituter.
    pub is_trusted: bool,
    /// The URL without what is about this side alone, for messages.
    pub name: String,
}

/// A parameter of a daemon's URL has a value that it can't have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("daemon '{url}': parameter '{parameter}' has an invalid value '{value}': expected {expected}")]
pub struct AddressError {
    /// The URL without parameters.
    pub url: String,
    /// Its name, or that of a variable that stands for one.
    pub parameter: &'static str,
    /// Its value.
    pub value: String,
    /// What would be valid.
    pub expected: &'static str,
}

impl DaemonAddress {
    /// The usual socket of a machine: that which `NIX_DAEMON_SOCKET_PATH` names, else the one in the state directory.
    #[must_use]
    pub fn usual_socket(environment: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("NIX_DAEMON_SOCKET_PATH").unwrap_or_else(|| {
            set("NIX_STATE_DIR").unwrap_or_else(|| "/nix/var/nix".into()).join("daemon-socket").join("socket")
        })
    }

    /// The daemon at a socket, as a URL's parameters have it. `store_dir` is what its paths begin with unless the parameter
    /// `store` says something else; parameters that aren't known are left alone, as they say where a local store is.
    ///
    /// # Errors
    /// A parameter has a value that it can't have.
    pub fn new(
        socket: &Path,
        parameters: &BTreeMap<String, OsString>,
        store_dir: StoreDir,
    ) -> Result<Self, AddressError> {
        let url = format!("unix://{}", kiln_events::quoted(socket.as_os_str().as_encoded_bytes()));
        Self::at(DaemonPlace::Socket(socket.to_owned()), url, parameters, store_dir, CONNECTIONS)
    }

    /// The daemon of a machine that is reached by ssh. `ssh_options` is the variable `NIX_SSHOPTS`: words, quoted as for a shell.
    ///
    /// # Errors
    /// A parameter of the URL has a value that it can't have, or the words are quoted wrongly.
    pub fn by_ssh(
        machine: &SshUrl,
        ssh_options: Option<&str>,
        store_dir: StoreDir,
    ) -> Result<Self, AddressError> {
        let url = machine.name();
        let words = ssh_options.unwrap_or_default();
        let options = shlex::split(words).ok_or_else(|| AddressError {
            url: url.clone(),
            parameter: "NIX_SSHOPTS",
            value: kiln_events::quoted(words.as_bytes()),
            expected: "words, with quotes in pairs",
        })?;
        let place = DaemonPlace::Ssh { machine: Box::new(machine.clone()), options };
        Self::at(place, url, &machine.other, store_dir, CONNECTIONS_BY_SSH)
    }

    /// A daemon of one's own for one client, called `name` in messages.
    #[must_use]
    pub fn program(
        words: Vec<OsString>,
        variables: Vec<(OsString, OsString)>,
        name: String,
        store_dir: StoreDir,
    ) -> Self {
        let place = DaemonPlace::Program { words, variables };
        Self { place, store_dir, max_connections: 1, priority: 0, is_trusted: false, name }
    }

    /// Whether it works for a store of this machine.
    #[must_use]
    pub const fn is_here(&self) -> bool {
        !matches!(self.place, DaemonPlace::Ssh { .. })
    }

    fn at(
        place: DaemonPlace,
        url: String,
        parameters: &BTreeMap<String, OsString>,
        store_dir: StoreDir,
        usual_connections: usize,
    ) -> Result<Self, AddressError> {
        let value = |parameter: &'static str| {
            parameters.get(parameter).map(|value| (parameter, value.to_string_lossy().into_owned()))
        };
        let invalid = |(parameter, value): (&'static str, String), expected| AddressError {
            url: url.clone(),
            parameter,
            value: kiln_events::quoted(value.as_bytes()),
            expected,
        };
        let store_dir = match value("store") {
            Some(given) => {
                StoreDir::new(given.1.as_str()).map_err(|_| invalid(given, "an absolute directory"))?
            }
            None => store_dir,
        };
        let max_connections = match value("max-connections") {
            Some(given) => match given.1.parse() {
                Ok(number @ 1..=MOST_CONNECTIONS) => number,
                _ => return Err(invalid(given, "a number from 1 to 256")),
            },
            None => usual_connections,
        };
        let priority = match value("priority") {
            Some(given) => given.1.parse().map_err(|_| invalid(given, "a number"))?,
            None => 0,
        };
        let is_trusted = match value("trusted") {
            Some(given) => truth(&given.1).ok_or_else(|| invalid(given, "true or false"))?,
            None => false,
        };
        Ok(Self { place, store_dir, max_connections, priority, is_trusted, name: url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_settings::StoreUrl;

    fn address(parameters: &[(&str, &str)]) -> Result<DaemonAddress, AddressError> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
        DaemonAddress::new("/run/s".as_ref(), &parameters.collect(), StoreDir::default())
    }

    #[test]
    fn parameters_are_those_of_nix() {
        let plain = address(&[("root", "/r"), ("other", "x")]).unwrap();
        assert_eq!((plain.store_dir, plain.max_connections), (StoreDir::default(), CONNECTIONS));
        assert_eq!((plain.priority, plain.is_trusted, plain.name.as_str()), (0, false, "unix:///run/s"));
        let all =
            address(&[("store", "/s"), ("max-connections", "9"), ("priority", "5"), ("trusted", "true")]);
        let all = all.unwrap();
        assert_eq!((all.store_dir.as_str(), all.max_connections), ("/s", 9));
        assert_eq!((all.priority, all.is_trusted), (5, true));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (parameter, value) in [
            ("store", "relative"),
            ("max-connections", "0"),
            ("max-connections", "many"),
            ("priority", "first"),
            ("trusted", "perhaps"),
        ] {
            let error = address(&[(parameter, value)]).unwrap_err().to_string();
            assert!(error.contains(parameter) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn a_machine_has_one_connection_unless_its_url_says_more() {
        let by_ssh = |url: &str, options| match StoreUrl::parse(url).unwrap() {
            StoreUrl::Ssh(machine) => DaemonAddress::by_ssh(&machine, options, StoreDir::default()),
            other => panic!("{other:?}"),
        };
        let plain = by_ssh("ssh-ng://me@host", None).unwrap();
        assert_eq!(
            (plain.max_connections, plain.name.as_str(), plain.is_here()),
            (1, "ssh-ng://me@host", false)
        );
        let more = by_ssh("ssh-ng://host?max-connections=3&trusted=1", Some("-F none -o 'A B'")).unwrap();
        assert_eq!((more.max_connections, more.is_trusted), (3, true));
        let DaemonPlace::Ssh { options, .. } = more.place else { panic!("no machine") };
        assert_eq!(options, ["-F", "none", "-o", "A B"]);
        let error = by_ssh("ssh-ng://host", Some("-o 'A")).unwrap_err().to_string();
        assert!(error.contains("NIX_SSHOPTS"), "{error}");
    }

    #[test]
    fn the_usual_socket_is_in_the_state_directory() {
        let usual = |variable: &'static str| {
            DaemonAddress::usual_socket(&move |name: &str| (name == variable).then(|| "/x".into()))
        };
        assert_eq!(usual(""), Path::new("/nix/var/nix/daemon-socket/socket"));
        assert_eq!(usual("NIX_STATE_DIR"), Path::new("/x/daemon-socket/socket"));
        assert_eq!(usual("NIX_DAEMON_SOCKET_PATH"), Path::new("/x"));
    }
}
