//! How machines are reached.

use std::ffi::OsString;
use std::path::PathBuf;

use kiln_remote::DaemonAddress;
use kiln_settings::{LocalStoreUrl, RemoteMachine, StoreUrl};
use kiln_store_path::StoreDir;

use crate::error::{Error, Result};

/// By what means machines are reached.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The variable `NIX_SSHOPTS`: further arguments for ssh.
    pub ssh_options: Option<String>,
    /// The usual socket of a daemon on this machine.
    pub daemon_socket: PathBuf,
    /// The program that serves the store of a directory, and its first arguments; the store's URL is to come.
    pub daemon: Vec<OsString>,
    /// Variables that it gets.
    pub variables: Vec<(OsString, OsString)>,
}

impl Reach {
    /// The daemon of a machine, for paths below `store_dir`.
    ///
    /// # Errors
    /// Nothing can be built there.
    pub fn address(&self, machine: &RemoteMachine, store_dir: &StoreDir) -> Result<DaemonAddress> {
        let unfit = || Error::Machine(machine.store_url.clone());
        let address = match StoreUrl::parse(&machine.store_url)? {
            StoreUrl::Ssh(mut ssh) => {
                ssh.key = machine.ssh_key.clone().or(ssh.key);
                ssh.host_key = machine.ssh_public_host_key.clone().or(ssh.host_key);
                DaemonAddress::by_ssh(&ssh, self.ssh_options.as_deref(), store_dir.clone())?
            }
            StoreUrl::Daemon { socket, parameters } => {
                let socket = socket.unwrap_or_else(|| self.daemon_socket.clone());
                DaemonAddress::new(&socket, &parameters, store_dir.clone())?
            }
            // The engine has locked in its own store what would be built there.
            StoreUrl::Local(url) if url == LocalStoreUrl::default() => return Err(unfit()),
            StoreUrl::Local(url) => {
                let stated = url.store.as_ref().map(|path| StoreDir::new(&path.to_string_lossy()));
                let own = stated.transpose().map_err(|_| unfit())?.unwrap_or_else(|| store_dir.clone());
                let mut words = self.daemon.clone();
                words.push(StoreUrl::Local(url).render().into());
                DaemonAddress::program(words, self.variables.clone(), machine.store_url.clone(), own)
            }
            StoreUrl::Auto | StoreUrl::Other(_) => return Err(unfit()),
        };
        if address.store_dir == *store_dir {
            return Ok(address);
        }
        Err(Error::OtherStore {
            machine: machine.store_url.clone(),
            found: address.store_dir.to_string(),
            expected: store_dir.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use kiln_remote::DaemonPlace;
    use kiln_settings::parse_machines;

    use super::*;

    fn address(row: &str) -> Result<DaemonAddress> {
        let machine = parse_machines(row, "x", &|_: &std::path::Path| Ok(None)).unwrap().remove(0);
        let reach = Reach {
            ssh_options: Some("-F none".to_owned()),
            daemon_socket: "/usual".into(),
            daemon: vec!["kiln".into(), "daemon".into()],
            variables: vec![("A".into(), "b".into())],
        };
        reach.address(&machine, &StoreDir::default())
    }

    #[test]
    fn h5_keys_come_from_the_columns_or_the_url() {
        let keys = |row: &str| match address(row).unwrap().place {
            DaemonPlace::Ssh { machine, options } => {
                assert_eq!(options, ["-F", "none"]);
                (machine.key, machine.host_key)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(keys("host - /key 1 1 - - c3No"), (Some("/key".into()), Some("c3No".to_owned())));
        let in_url = keys("ssh-ng://host?ssh-key=/k&base64-ssh-public-host-key=c3No");
        assert_eq!(in_url, (Some("/k".into()), Some("c3No".to_owned())));
    }

    #[test]
    fn h5_daemons_and_directories_of_this_machine_build_too() {
        assert_eq!(address("daemon").unwrap().place, DaemonPlace::Socket("/usual".into()));
        assert_eq!(address("unix:///s").unwrap().place, DaemonPlace::Socket("/s".into()));
        let directory = address("/r").unwrap();
        let words = ["kiln", "daemon", "local?root=/r"].map(OsString::from).to_vec();
        let variables = vec![("A".into(), "b".into())];
        assert_eq!(directory.place, DaemonPlace::Program { words, variables });
        assert_eq!(directory.name, "/r");
    }

    #[test]
    fn h5_what_cannot_build_is_refused() {
        for row in ["local", "auto", "https://cache.example", "s3://bucket"] {
            assert!(matches!(address(row), Err(Error::Machine(_))), "{row}");
        }
        assert!(matches!(address("unix:///s?store=/other"), Err(Error::OtherStore { .. })));
        assert!(matches!(address("/r?store=/other"), Err(Error::OtherStore { .. })));
    }
}
