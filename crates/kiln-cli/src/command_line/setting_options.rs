//! Settings as options of commands: `--NAME VALUE`, `--NAME`, `--no-NAME`, `--extra-NAME VALUE`.
//!
//! Which option means what is decided by `kiln_settings`; here they become arguments that clap knows, so that misspelt
//! ones get a suggestion. All but a few stay out of `--help`, which `kiln config describe` makes up for.

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Command};
use kiln_settings::{CommandLineFlag, Kind, Setting, TABLE, command_line_flag, find_setting};

const HEADING: &str = "Settings that are often given here";

/// Settings that `--help` lists, and the letters that stand for them.
const LISTED: [(&str, Option<char>); 6] = [
    ("max-jobs", Some('j')),
    ("cores", None),
    ("keep-going", Some('k')),
    ("keep-failed", Some('K')),
    ("timeout", None),
    ("max-silent-time", None),
];

/// One option and what it does.
struct SettingOption {
    /// Without the dashes.
    name: String,
    effect: CommandLineFlag,
}

/// All options that stand for settings. `--store` has an argument of its own.
static OPTIONS: LazyLock<Vec<SettingOption>> = LazyLock::new(|| {
    let mut options = Vec::new();
    for setting in TABLE.iter().filter(|setting| setting.name != "store") {
        for name in candidates(setting) {
            if let Some(effect) = command_line_flag(&format!("--{name}")) {
                options.push(SettingOption { name, effect });
            }
        }
    }
    options
});

/// Everything that could be an option of a setting.
fn candidates(setting: &Setting) -> Vec<String> {
    let words = match setting.kind {
        Kind::Choice(words) => words,
        _ => &[],
    };
    let prefixes =
        ["no", "extra"].iter().chain(words.iter().filter(|word| !["true", "false"].contains(word)));
    let prefixed = prefixes.map(|prefix| format!("{prefix}-{}", setting.name));
    std::iter::once(setting.name.to_owned()).chain(prefixed).collect()
}

/// Adds the options to a command.
pub(super) fn add(command: Command) -> Command {
    let options: &'static [SettingOption] = &OPTIONS;
    command.next_help_heading(HEADING).args(options.iter().map(argument))
}

fn argument(option: &'static SettingOption) -> Arg {
    let argument = Arg::new(option.name.as_str()).long(option.name.as_str()).action(ArgAction::Append);
    let argument = match &option.effect {
        CommandLineFlag::Fixed { value, .. } => argument.num_args(0).default_missing_value(*value),
        CommandLineFlag::Takes { .. } => argument.num_args(1).value_name("VALUE").allow_hyphen_values(true),
    };
    let listed = LISTED.iter().find(|(name, _)| *name == option.name);
    match (listed, find_setting(&option.name)) {
        (Some((_, letter)), Some(setting)) => {
            letter.iter().fold(argument, |argument, letter| argument.short(*letter)).help(setting.help)
        }
        _ => argument.hide(true),
    }
}

/// The settings that options of a command set: position on the command line, name, value.
pub(super) fn collect(matches: &ArgMatches) -> Vec<(usize, String, String)> {
    let mut given = Vec::new();
    for option in OPTIONS.iter() {
        let Ok(Some(values)) = matches.try_get_many::<String>(&option.name) else { continue };
        let Some(positions) = matches.indices_of(&option.name) else { continue };
        let name = match &option.effect {
            CommandLineFlag::Fixed { name, .. } => *name,
            CommandLineFlag::Takes { name } => name,
        };
        given.extend(
            positions.zip(values).map(|(position, value)| (position, name.to_owned(), value.clone())),
        );
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_its_options() {
        let names: Vec<&str> = OPTIONS.iter().map(|option| option.name.as_str()).collect();
        for name in [
            "max-jobs",
            "no-keep-going",
            "relaxed-sandbox",
            "no-sandbox",
            "extra-substituters",
            "extra-platforms",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        for name in ["no-max-jobs", "extra-cores", "true-sandbox", "store"] {
            assert!(!names.contains(&name), "{name}");
        }
        assert!(LISTED.iter().all(|(name, _)| names.contains(name)));
    }
}
