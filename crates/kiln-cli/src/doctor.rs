//! Examining a machine: each module looks at one part of it and answers with findings. None of them changes anything.
//!
//! A finding says what is so, how bad that is, and what can be done about it. What this user cannot see is a note, not a
//! problem: the daemon may well see it.

mod caches;
mod configuration;
mod daemon;
mod database;
mod disk;
mod finding;
mod leftovers;
mod machines;
mod network;
mod sandbox;
mod store;
mod users;

use kiln_settings::{Configuration, LocalStoreUrl, Settings};
use kiln_store::Locations;

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Work;
use crate::{machine, store_config};

pub(crate) use finding::{Finding, Level, readable};

/// What all examinations go by.
struct Facts<'a> {
    invocation: &'a Invocation<'a>,
    work: &'a Work,
    locations: Locations,
    is_root: bool,
}

impl Facts<'_> {
    fn settings(&self) -> &Settings {
        &self.work.settings
    }
}

/// Examines everything.
pub(crate) fn examine(invocation: &Invocation<'_>) -> Result<Vec<Finding>, Failure> {
    let (configuration, mut findings) = configuration::load(invocation);
    let settings = match configuration {
        Some(configuration) => configuration.into_settings(),
        // The rest is looked at as if nothing was set.
        None => Configuration::new(&machine::detect(invocation.environment)).into_settings(),
    };
    let locations = locations(invocation, &settings)?;
    let work = Work::begin(invocation, settings)?;
    let is_root = rustix::process::geteuid().is_root();
    let facts = Facts { invocation, work: &work, locations, is_root };
    findings.extend(configuration::examine(&facts));
    findings.extend(store::examine(&facts));
    findings.extend(database::examine(&facts));
    findings.extend(disk::examine(&facts));
    findings.extend(leftovers::examine(&facts));
    findings.extend(users::examine(&facts));
    findings.extend(sandbox::examine(&facts));
    findings.extend(network::examine(&facts));
    findings.extend(daemon::examine(&facts));
    findings.extend(caches::examine(&facts));
    findings.extend(machines::examine(&facts));
    Ok(findings)
}

/// Where the store is that this machine's daemon serves, or that the settings name.
fn locations(invocation: &Invocation<'_>, settings: &Settings) -> Result<Locations, Failure> {
    match store_config::from_settings(settings, invocation.environment) {
        Ok(config) => Ok(config.locations),
        Err(_) => {
            let lookup = |name: &str| invocation.environment.value(name);
            Ok(Locations::resolve(&LocalStoreUrl::default(), &lookup)?)
        }
    }
}
