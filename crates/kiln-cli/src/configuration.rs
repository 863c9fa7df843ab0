//! The settings of this run: files, environment and command line, in this order.

use std::io::ErrorKind;
use std::path::Path;

use kiln_events::EventSender;
use kiln_settings::{Configuration, Origin, Position, SourceError, find_setting};

use crate::command_line::GlobalOptions;
use crate::environment::Environment;
use crate::failure::{Failure, While};
use crate::machine;

/// Names of stores that are no names of directories.
const WORDS: [&str; 4] = ["auto", "local", "daemon", "unix"];

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
    match &global.store {
        Some(store) => configuration.set("store", &absolute(store)?, Origin::CommandLine)?,
        None => set_by_remote(&mut configuration, environment)?,
    }
    for warning in configuration.warnings() {
        events.warn(warning.to_string());
    }
    Ok(configuration)
}

/// The variable `NIX_REMOTE` names the store unless a file does.
fn set_by_remote(configuration: &mut Configuration, environment: &Environment) -> Result<(), Failure> {
    let is_set = find_setting("store").is_some_and(|setting| !configuration.origins(setting).is_empty());
    if let (Some(remote), false) = (environment.text("NIX_REMOTE"), is_set) {
        let position = Position { file: "NIX_REMOTE".into(), line: 1, column: 1 };
        configuration.set("store", remote, Origin::Environment(position))?;
    }
    Ok(())
}

/// A store as the command line names it, with the directory, if it is one, as an absolute path.
pub(crate) fn absolute(store: &str) -> Result<String, Failure> {
    let (place, parameters) = store.split_at(store.find('?').unwrap_or(store.len()));
    let is_directory = !place.contains("://")
        && (place.contains('/') || !WORDS.contains(&place) && Path::new(place).is_dir());
    if !is_directory {
        return Ok(store.to_owned());
    }
    let place = std::path::absolute(place).doing(|| "looking for the working directory")?;
    Ok(format!("{}{parameters}", place.display()))
}

pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    match std::fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(SourceError(error.to_string())),
    }
}
