//! From the table of commands to clap, and from a command line to the command that runs.

mod global_options;
mod help;
mod setting_options;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

pub(crate) use global_options::{GlobalOptions, LOGS_FLAG};

use crate::commands::{Entry, Kind, Run, TABLE};
use crate::environment::Environment;
use crate::failure::{Failure, GENERAL_EXIT_CODE};
use crate::invocation::Invocation;
use crate::role::Role;
use crate::terminal::Terminal;
use crate::{build_hook, configuration, nix_store, output};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The whole command line as clap sees it.
pub(crate) fn definition() -> Command {
    let root = Command::new("kiln")
        .version(VERSION)
        .about("A Nix-compatible store and build engine")
        .long_about(help::PROGRAM_DESCRIPTION)
        .after_long_help(help::program_end());
    global_options::add(group(root, TABLE))
}

/// A command that only has commands.
fn group(command: Command, entries: &[Entry]) -> Command {
    command
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand_help_heading("Commands")
        .subcommands(entries.iter().map(self::command))
}

/// One entry of the table as clap sees it.
fn command(entry: &Entry) -> Command {
    let command = Command::new(entry.name)
        .about(entry.purpose)
        .long_about(format!("{}.\n\n{}", entry.purpose, entry.description));
    match &entry.kind {
        Kind::Group(entries) => global_options::add(group(command, entries)),
        Kind::Run(run) => {
            let command = (run.arguments)(command).after_long_help(help::command_end(run));
            // There are hundreds of settings: only the command that is run gets them.
            command.defer(if run.takes_settings { common_options } else { global_options::add })
        }
    }
}

/// The options of a command that takes settings, besides its own.
fn common_options(command: Command) -> Command {
    global_options::add(setting_options::add(command))
}

/// Runs what the command line asks for and returns the exit code.
pub(crate) fn run(environment: &Environment) -> u8 {
    if let Some(words) = Role::nix_store(&environment.arguments) {
        return nix_store::run(environment, GlobalOptions::default(), words);
    }
    if let Some(words) = Role::build_hook(&environment.arguments) {
        return build_hook::run(environment, words);
    }
    let role = Role::of(&environment.arguments);
    if let Some(name) = role.asks_nix_version {
        return nix_version(environment, name);
    }
    let matches = match definition().try_get_matches_from(&role.arguments) {
        Ok(matches) => matches,
        Err(error) => return answer_of_clap(&error),
    };
    let mut levels = vec![&matches];
    let Some(run) = selected(TABLE, &mut levels) else { return GENERAL_EXIT_CODE };
    let global = GlobalOptions::collect(&levels);
    let terminal = Terminal::open(&global);
    let matches = levels.last().copied().unwrap_or(&matches);
    let exit_code =
        match (run.run)(&Invocation { environment, global: &global, matches, terminal: &terminal }) {
            Ok(exit_code) => exit_code,
            Err(failure) => {
                terminal.error(&failure);
                failure.exit_code()
            }
        };
    terminal.finish();
    exit_code
}

/// Prints the help of a command, and returns the exit code.
pub(crate) fn help_of(command: &str) -> u8 {
    let asked = definition().try_get_matches_from(["kiln", command, "--help"]);
    asked.map_or_else(|help| answer_of_clap(&help), |_| 0)
}

/// Prints the version of Nix that the daemon says it has, as `nix --version` does, whose third word scripts take.
pub(crate) fn nix_version(environment: &Environment, name: &str) -> u8 {
    let global = GlobalOptions::default();
    let terminal = Terminal::open(&global);
    let printed = configuration::load(environment, &global, &terminal.events).and_then(|loaded| {
        output::print(format!("{name} (Nix) {}\n", loaded.into_settings().reported_nix_version))
    });
    if let Err(failure) = &printed {
        terminal.error(failure);
    }
    terminal.finish();
    printed.map_or_else(|failure| failure.exit_code(), |()| 0)
}

/// Follows the command line down the table; `levels` gets the matches of each level.
fn selected(entries: &'static [Entry], levels: &mut Vec<&ArgMatches>) -> Option<&'static Run> {
    let mut entries = entries;
    loop {
        let (name, matches) = levels.last()?.subcommand()?;
        let entry = entries.iter().find(|entry| entry.name == name)?;
        levels.push(matches);
        match &entry.kind {
            Kind::Group(inner) => entries = inner,
            Kind::Run(run) => return Some(run),
        }
    }
}

/// Prints what clap has to say: help and version on standard output; wrong usage on standard error, in our words about
/// where help is.
fn answer_of_clap(error: &clap::Error) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return error.print().map_or(GENERAL_EXIT_CODE, |()| 0);
    }
    // Help instead of a missing command, on standard error.
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return GENERAL_EXIT_CODE;
    }
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let rendered = error.render().to_string();
    let message = rendered.split("\n\nUsage: ").next().unwrap_or(&rendered);
    let message = message.split("\n\nFor more information").next().unwrap_or(message);
    let message = message.strip_prefix("error: ").unwrap_or(message).trim_end().replace("\n\n", "\n");
    let way_out = format!("Try '{} --help' for more information.", program(&usage));
    let terminal = Terminal::open(&GlobalOptions::default());
    terminal.error(&Failure::input(format!("{message}\n{way_out}")));
    terminal.finish();
    GENERAL_EXIT_CODE
}

/// The command that a usage line (`Usage: kiln build [OPTIONS] …`) is of.
fn program(usage: &str) -> String {
    let words = usage.trim().strip_prefix("Usage:").unwrap_or_default().split_whitespace();
    let words: Vec<&str> =
        words.take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).collect();
    if words.is_empty() { "kiln".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_table() {
        definition().debug_assert();
    }

    #[test]
    fn every_command_teaches() {
        let mut entries: Vec<(String, &Entry)> =
            TABLE.iter().map(|entry| (format!("kiln {}", entry.name), entry)).collect();
        while let Some((line, entry)) = entries.pop() {
            assert!(!entry.purpose.ends_with('.') && entry.purpose.len() <= 70, "purpose of {line}");
            assert!(entry.description.ends_with('.'), "description of {line}");
            match &entry.kind {
                Kind::Group(inner) => {
                    entries.extend(inner.iter().map(|entry| (format!("{line} {}", entry.name), entry)));
                }
                Kind::Run(run) => {
                    assert!(!run.examples.is_empty(), "no example of {line}");
                    assert!(
                        run.examples.iter().all(|(example, _)| example.contains(&line)),
                        "examples of {line}"
                    );
                }
            }
        }
    }

    /// The reference names each command in a heading or, for packagers', in the text, and each option.
    #[test]
    fn the_reference_is_complete() {
        const REFERENCE: &str = include_str!("../../../docs/commands.md");
        let mut commands: Vec<(String, Command)> = vec![("kiln".to_owned(), definition())];
        while let Some((line, command)) = commands.pop() {
            let mentioned =
                REFERENCE.contains(&format!("`{line}`")) || REFERENCE.contains(&format!("`{line} "));
            assert!(mentioned, "docs/commands.md lacks '{line}'");
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                if let Some(long) = option.get_long() {
                    assert!(
                        REFERENCE.contains(&format!("--{long}")),
                        "docs/commands.md lacks '{line} --{long}'"
                    );
                }
                if let Some(short) = option.get_short() {
                    assert!(
                        REFERENCE.contains(&format!("`-{short}")),
                        "docs/commands.md lacks '{line} -{short}'"
                    );
                }
            }
            let inner = command
                .get_subcommands()
                .map(|inner| (format!("{line} {}", inner.get_name()), inner.clone()));
            commands.extend(inner);
        }
    }

    #[test]
    fn options_join_over_the_levels() {
        let matches = definition()
            .try_get_matches_from([
                "kiln", "-v", "--option", "a", "1", "--store", "x", "hash", "convert", "-vv", "--quiet",
                "--store", "y", "--option", "b", "2", "sha256-",
            ])
            .unwrap();
        let mut levels = vec![&matches];
        selected(TABLE, &mut levels).unwrap();
        let global = GlobalOptions::collect(&levels);
        assert_eq!(global.verbosity_steps, 2);
        assert_eq!(global.store.as_deref(), Some("y"));
        assert_eq!(global.settings, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    }

    #[test]
    fn settings_keep_the_order_of_the_command_line() {
        let matches = definition()
            .try_get_matches_from([
                "kiln",
                "config",
                "show",
                "--cores",
                "2",
                "--option",
                "cores",
                "3",
                "-k",
                "--no-keep-going",
                "--relaxed-sandbox",
                "-j4",
                "--option",
                "max-jobs",
                "5",
                "--extra-substituters=file:///x",
            ])
            .unwrap();
        let mut levels = vec![&matches];
        selected(TABLE, &mut levels).unwrap();
        let settings = GlobalOptions::collect(&levels).settings;
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            settings,
            [
                "cores=2",
                "cores=3",
                "keep-going=true",
                "keep-going=false",
                "sandbox=relaxed",
                "max-jobs=4",
                "max-jobs=5",
                "extra-substituters=file:///x",
            ]
        );
    }

    #[test]
    fn the_command_is_read_off_its_usage() {
        assert_eq!(program("Usage: kiln store add [OPTIONS] <PATH>..."), "kiln store add");
        assert_eq!(program(""), "kiln");
    }
}
