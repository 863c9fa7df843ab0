//! All that a command may use.

use clap::ArgMatches;
use kiln_settings::{Configuration, Settings};
use kiln_store::StoreConfig;

use crate::command_line::GlobalOptions;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::terminal::Terminal;
use crate::{configuration, store_config};

/// One run of one command.
pub(crate) struct Invocation<'a> {
    /// Variables and arguments of the process.
    pub(crate) environment: &'a Environment,
    /// The options that every command has.
    pub(crate) global: &'a GlobalOptions,
    /// The command's own options and arguments.
    pub(crate) matches: &'a ArgMatches,
    /// Where to tell what happens.
    pub(crate) terminal: &'a Terminal,
}

impl Invocation<'_> {
    /// Whether a flag was given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.matches.get_flag(name)
    }

    /// The value of an option.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.matches.get_one::<String>(name).map(String::as_str)
    }

    /// The values of an argument or option that may be given more than once.
    pub(crate) fn values<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Vec<T> {
        self.matches.get_many::<T>(name).unwrap_or_default().cloned().collect()
    }

    /// The settings of this run.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(self.configuration()?.into_settings())
    }

    /// The settings of this run, and where they come from.
    pub(crate) fn configuration(&self) -> Result<Configuration, Failure> {
        configuration::load(self.environment, self.global, &self.terminal.events)
    }

    /// The settings of this run, and the store that they name, which is not opened yet.
    pub(crate) fn store_config(&self) -> Result<(Settings, StoreConfig), Failure> {
        let settings = self.settings()?;
        let config = store_config::from_settings(&settings, self.environment)?;
        Ok((settings, config))
    }
}
