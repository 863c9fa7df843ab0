//! The settings of this run: files, environment and command line, in this order.

use std::io::ErrorKind;
use std::path::Path;

use kiln_events::EventSender;
use kiln_settings::{Configuration, Origin, SourceError};

use crate::command_line::GlobalOptions;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::machine;

/// Reads all that can set a setting, and warns of what is odd.
pub(crate) fn load(
    environment: &Environment,
    global: &GlobalOptions,
    events: &EventSender,
) -> Result<Configuration, Failure> {
    let machine = machine::detect(environment);
    let lookup = |name: &str| environment.value(name);
    let mut configuration = Configuration::load(&machine, &lookup, &read)?;
    for (name, value) in &global.settings {
        configuration.set(name, value, Origin::CommandLine)?;
    }
    if let Some(store) = &global.store {
        configuration.set("store", store, Origin::CommandLine)?;
    }
    for warning in configuration.warnings() {
        events.warn(warning.to_string());
    }
    Ok(configuration)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    match std::fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(SourceError(error.to_string())),
    }
}
