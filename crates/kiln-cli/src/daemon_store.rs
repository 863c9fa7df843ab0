//! The store behind a daemon that a URL or the settings name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_events::Verbosity;
use kiln_protocol::worker::request::SetOptions;
use kiln_remote::DaemonAddress;
use kiln_settings::{Settings, StoreUrl};
use kiln_store::Automatic;
use kiln_store_path::StoreDir;

use crate::environment::Environment;
use crate::failure::{Failure, While};

/// Where the daemon is whose store is meant; nothing if it is a store of another kind.
pub(crate) fn address(store: &StoreUrl, environment: &Environment) -> Result<Option<DaemonAddress>, Failure> {
    let lookup = |name: &str| environment.value(name);
    let (socket, parameters) = match store {
        StoreUrl::Daemon { socket, parameters } => {
            (socket.clone().unwrap_or_else(|| DaemonAddress::usual_socket(&lookup)), parameters.clone())
        }
        StoreUrl::Auto => match Automatic::choose(&lookup)? {
            Automatic::Daemon(socket) => (socket, BTreeMap::new()),
            Automatic::Local(_) | Automatic::OfUser(_) => return Ok(None),
        },
        StoreUrl::Ssh(machine) => {
            let options = environment.text("NIX_SSHOPTS");
            let address = DaemonAddress::by_ssh(machine, options, usual_store_dir(environment)?)?;
            return Ok(Some(address));
        }
        StoreUrl::Local(_) | StoreUrl::Other(_) => return Ok(None),
    };
    let socket: PathBuf = std::path::absolute(&socket).doing(|| "looking for the working directory")?;
    Ok(Some(DaemonAddress::new(&socket, &parameters, usual_store_dir(environment)?)?))
}

/// The store directory of paths where no store says it.
pub(crate) fn usual_store_dir(environment: &Environment) -> Result<StoreDir, Failure> {
    match environment.text("NIX_STORE_DIR") {
        Some(directory) => StoreDir::new(directory).doing(|| "reading the variable NIX_STORE_DIR"),
        None => Ok(StoreDir::default()),
    }
}

/// What a daemon is asked to do its work by. `overrides` are the settings of this run that have no field of their own.
pub(crate) fn options(
    settings: &Settings,
    overrides: Vec<(&'static str, String)>,
    verbosity: Verbosity,
    shows_build_output: bool,
) -> SetOptions {
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    SetOptions {
        keep_failed: settings.keep_failed,
        keep_going: settings.keep_going,
        try_fallback: settings.fallback,
        verbosity: u64::from(verbosity.number()),
        max_build_jobs: settings.max_jobs.resolve(cpus),
        max_silent_time: settings.max_silent_time,
        // Only whether it is 0 is looked at.
        build_verbosity: if shows_build_output { 0 } else { u64::from(Verbosity::Vomit.number()) },
        build_cores: settings.cores,
        use_substitutes: settings.substitute,
        overrides: overrides.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect(),
        ..SetOptions::default()
    }
}
