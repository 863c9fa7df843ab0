//! The flags that settings have on the command line.

use crate::configuration::resolve;
use crate::table::find_setting;
use crate::value::Kind;

/// What a flag does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLineFlag {
    /// It sets a setting by itself (`--keep-going`, `--no-keep-going`, `--relaxed-sandbox`).
    Fixed {
        /// The setting's name.
        name: &'static str,
        /// The value that it gets.
        value: &'static str,
    },
    /// It takes the next argument as the value (`--max-jobs 4`, `--extra-substituters URL`).
    Takes {
        /// The setting's name, with `extra-` before it if the value is to be added.
        name: String,
    },
}

/// The setting that a flag such as `--max-jobs` stands for; `None` if it is none of a setting. Aliases are for files
/// only.
#[must_use]
pub fn command_line_flag(argument: &str) -> Option<CommandLineFlag> {
    let flag = argument.strip_prefix("--")?;
    if let Some((setting, adds)) = resolve(flag) {
        if flag.strip_prefix("extra-").filter(|_| adds).unwrap_or(flag) != setting.name {
            return None;
        }
        return Some(match setting.kind {
            Kind::Boolean => CommandLineFlag::Fixed { name: setting.name, value: "true" },
            Kind::Choice(words) if words.contains(&"true") => {
                CommandLineFlag::Fixed { name: setting.name, value: "true" }
            }
            _ => CommandLineFlag::Takes { name: flag.to_owned() },
        });
    }
    let (value, name) = flag.split_once('-')?;
    let setting = find_setting(name).filter(|setting| setting.name == name)?;
    let value = if value == "no" { "false" } else { value };
    match setting.kind {
        Kind::Boolean if value == "false" && flag.starts_with("no-") => {
            Some(CommandLineFlag::Fixed { name: setting.name, value: "false" })
        }
        // `--no-sandbox`, `--relaxed-sandbox`.
        Kind::Choice(words) if words.contains(&"true") => {
            let value = words.iter().copied().find(|word| *word == value && *word != "true")?;
            Some(CommandLineFlag::Fixed { name: setting.name, value })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_settings() {
        let fixed = |name, value| Some(CommandLineFlag::Fixed { name, value });
        let takes = |name: &str| Some(CommandLineFlag::Takes { name: name.to_owned() });
        assert_eq!(command_line_flag("--keep-going"), fixed("keep-going", "true"));
        assert_eq!(command_line_flag("--no-keep-going"), fixed("keep-going", "false"));
        assert_eq!(command_line_flag("--max-jobs"), takes("max-jobs"));
        assert_eq!(command_line_flag("--extra-substituters"), takes("extra-substituters"));
        assert_eq!(command_line_flag("--extra-platforms"), takes("extra-platforms"));
        assert_eq!(command_line_flag("--sandbox"), fixed("sandbox", "true"));
        assert_eq!(command_line_flag("--no-sandbox"), fixed("sandbox", "false"));
        assert_eq!(command_line_flag("--relaxed-sandbox"), fixed("sandbox", "relaxed"));
        assert_eq!(command_line_flag("--fod-network"), takes("fod-network"));
    }

    #[test]
    fn no_flags_of_settings() {
        for argument in [
            "",
            "--",
            "max-jobs",
            "-max-jobs",
            "--no-max-jobs",
            "--extra-max-jobs",
            "--build-max-jobs",
            "--no-build-fallback",
            "--false-keep-going",
            "--false-sandbox-",
            "--true-sandbox",
            "--other",
            "--extra-binary-caches",
            "--host-fod-network",
        ] {
            assert_eq!(command_line_flag(argument), None, "{argument}");
        }
    }
}
