//! Settings with where they come from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::conf_files::{ConfFileOwner, conf_files};
use crate::machine::Machine;
use crate::nix_conf::{Source, read, read_assignments};
use crate::settings_error::{Position, SettingsError, Warning};
use crate::table::{Setting, Settings, TABLE, find_setting};
use crate::unused::{is_evaluator_setting, without_effect};

/// How many warnings are kept; a configuration that gives more has one reason for them all.
const MAX_WARNINGS: usize = 100;

/// Settings that the daemon hears of otherwise (or never) than by the overrides that a client sends.
const NOT_SENT: &[&str] = &[
    "cores",
    "experimental-features",
    "fallback",
    "keep-failed",
    "keep-going",
    "max-jobs",
    "max-silent-time",
    "show-trace",
    "substitute",
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The machine's `nix.conf` or what it includes.
    SystemFile(Position),
    /// A file of the user, or what it includes.
    UserFile(Position),
    /// The variable `NIX_CONFIG`.
    Environment(Position),
    /// The command line.
    CommandLine,
    /// The client of a daemon.
    Client,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::SystemFile(position) | Origin::UserFile(position) | Origin::Environment(position) => {
                write!(f, "{}:{}", position.file.display(), position.line)
            }
            Origin::CommandLine => f.write_str("command line"),
            Origin::Client => f.write_str("client"),
        }
    }
}

impl Origin {
    fn position(&self) -> Option<&Position> {
        match self {
            Origin::SystemFile(position) | Origin::UserFile(position) | Origin::Environment(position) => {
                Some(position)
            }
            Origin::CommandLine | Origin::Client => None,
        }
    }
}

/// Settings, where each value comes from, and what was odd on the way.
#[derive(Clone, Debug)]
pub struct Configuration {
    settings: Settings,
    defaults: Settings,
    /// Of each setting that somebody set: who assigned it, then who added to it.
    origins: BTreeMap<&'static str, Vec<Origin>>,
    warnings: Vec<Warning>,
    /// Older names that somebody used, with the new ones.
    old_names: BTreeMap<String, &'static str>,
}

impl Configuration {
    /// The defaults.
    #[must_use]
    pub fn new(machine: &Machine) -> Configuration {
        let settings = Settings::defaults(machine);
        Configuration {
            defaults: settings.clone(),
            settings,
            origins: BTreeMap::new(),
            warnings: Vec::new(),
            old_names: BTreeMap::new(),
        }
    }

    /// What the machine's file, the user's files and `NIX_CONFIG` say. The command line comes after
    /// ([`Configuration::set`]).
    pub fn load(
        machine: &Machine,
        environment: &dyn Fn(&str) -> Option<OsString>,
        source: &dyn Source,
    ) -> Result<Configuration, SettingsError> {
        let mut configuration = Configuration::new(machine);
        for file in conf_files(environment) {
            let origin = match file.owner {
                ConfFileOwner::System => Origin::SystemFile,
                ConfFileOwner::User => Origin::UserFile,
            };
            if let Some(contents) = read(&file.path, source)? {
                configuration.apply(contents, &file.path, origin, source)?;
            }
        }
        if let Some(text) = environment("NIX_CONFIG") {
            use std::os::unix::ffi::OsStringExt;
            configuration.apply(text.into_vec(), Path::new("NIX_CONFIG"), Origin::Environment, source)?;
        }
        Ok(configuration)
    }

    /// Applies a text in the format of `nix.conf`. `path` is its name; files that it includes are relative to the
    /// directory of that. Unknown names only give warnings.
    pub fn apply(
        &mut self,
        contents: Vec<u8>,
        path: &Path,
        origin: fn(Position) -> Origin,
        source: &dyn Source,
    ) -> Result<(), SettingsError> {
        for assignment in read_assignments(path, contents, source)? {
            self.set(&assignment.name, &assignment.value, origin(assignment.position))?;
        }
        Ok(())
    }

    /// Sets one setting by name or alias, or with `extra-` before it adds to it. An unknown name only gives a warning.
    pub fn set(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), SettingsError> {
        let Some((setting, adds)) = resolve(name) else {
            self.note_unknown(name);
            return Ok(());
        };
        let said = if adds { name.strip_prefix("extra-").unwrap_or(name) } else { name };
        if said != setting.name {
            self.old_names.insert(said.to_owned(), setting.name);
        }
        let outcome = if adds {
            setting.append(&mut self.settings, value).unwrap_or(Ok(()))
        } else {
            setting.assign(&mut self.settings, value)
        };
        outcome.map_err(|reason| SettingsError::Value {
            position: origin.position().cloned(),
            name: setting.name,
            value: value.to_owned(),
            reason,
        })?;
        let origins = self.origins.entry(setting.name).or_default();
        if !adds {
            origins.clear();
        }
        origins.push(origin);
        Ok(())
    }

    /// The values.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The values alone.
    #[must_use]
    pub fn into_settings(self) -> Settings {
        self.settings
    }

    /// Where the value of a setting comes from: what assigned it, then what added to it. Nothing if it is the default.
    #[must_use]
    pub fn origins(&self, setting: &Setting) -> &[Origin] {
        self.origins.get(setting.name).map_or(&[], Vec::as_slice)
    }

    /// Older names of settings that somebody used, with the names that they have now.
    #[must_use]
    pub fn old_names(&self) -> &BTreeMap<String, &'static str> {
        &self.old_names
    }

    /// What was odd so far.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// All settings as lines `NAME = VALUE`, which give the same settings when they are read again. (Line breaks, which
    /// values have only if they came from a command line or client, become blanks: a value must not make lines.)
    #[must_use]
    pub fn show(&self) -> String {
        let line = |setting: &Setting| {
            let value = setting.show(&self.settings).replace(['\n', '\r'], " ");
            format!("{} = {value}\n", setting.name)
        };
        TABLE.iter().map(line).collect()
    }

    /// All settings as `config show --json` has them, with an `origin` list besides.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let row = |setting: &Setting| {
            json!({
                "aliases": setting.aliases,
                "defaultValue": setting.json(&self.defaults),
                "description": setting.help,
                "origin": self.origins(setting).iter().map(ToString::to_string).collect::<Vec<String>>(),
                "value": setting.json(&self.settings),
            })
        };
        TABLE.iter().map(|setting| (setting.name.to_owned(), row(setting))).collect()
    }

    /// What a client tells the daemon (worker protocol, overrides in SetOptions): all that comes from elsewhere than
    /// the machine's files, without what has fields of its own there.
    #[must_use]
    pub fn overrides(&self) -> Vec<(&'static str, String)> {
        let is_override = |setting: &&Setting| {
            let own = |origin: &Origin| !matches!(origin, Origin::SystemFile(_));
            self.origins(setting).iter().any(own) && !NOT_SENT.contains(&setting.name)
        };
        TABLE.iter().filter(is_override).map(|setting| (setting.name, setting.show(&self.settings))).collect()
    }

    fn note_unknown(&mut self, name: &str) {
        if is_evaluator_setting(name) {
            return;
        }
        let warning = without_effect(name).map_or_else(
            || Warning::Unknown { name: name.to_owned(), similar: similar_setting(name) },
            Warning::NoEffect,
        );
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// The setting of a name as users write it, and whether it is to be added to.
pub(crate) fn resolve(name: &str) -> Option<(&'static Setting, bool)> {
    if let Some(setting) = find_setting(name) {
        return Some((setting, false));
    }
    let setting = find_setting(name.strip_prefix("extra-")?)?;
    setting.appendable.then_some((setting, true))
}

/// The setting whose name differs least, if by at most two letters.
fn similar_setting(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let distances =
        TABLE.iter().map(|setting| (edit_distance(name.as_bytes(), setting.name.as_bytes()), setting.name));
    distances.min().filter(|(distance, _)| *distance <= 2).map(|(_, name)| name)
}

/// How many bytes must be added, removed or replaced to make one of the other.
fn edit_distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (removed, from_byte) in from.iter().enumerate() {
        let mut diagonal = removed;
        let mut left = removed + 1;
        let mut next = vec![left];
        for (above, to_byte) in row.iter().skip(1).zip(to) {
            left = (diagonal + usize::from(from_byte != to_byte)).min(above + 1).min(left + 1);
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, distance) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("sandbox", "sanbdox", 2),
            ("ab", "b", 1),
        ] {
            assert_eq!(edit_distance(from.as_bytes(), to.as_bytes()), distance, "{from} {to}");
        }
    }

    #[test]
    fn what_may_have_been_meant() {
        assert_eq!(similar_setting("sandbox-path"), Some("sandbox-paths"));
        assert_eq!(similar_setting("max-job"), Some("max-jobs"));
        assert_eq!(similar_setting("something-else"), None);
    }
}
