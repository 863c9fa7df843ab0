//! The options that every command has, at whatever level of the command line they stand.
//!
//! Clap's own global arguments keep only the innermost use of each; here `kiln -v store info -v` counts both, and
//! `kiln --option a 1 build --option b 2` sets both.

use clap::{Arg, ArgAction, ArgMatches, Command};
use kiln_console::LogFormat;

use super::setting_options;

const HEADING: &str = "Options of all commands";

/// What the options of all commands say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GlobalOptions {
    /// `--store`.
    pub(crate) store: Option<String>,
    /// `--log-format`.
    pub(crate) log_format: Option<LogFormat>,
    /// `--print-build-logs`, for the commands that have it.
    pub(crate) shows_logs: bool,
    /// How many levels more (`-v`) or fewer (`--quiet`) to show.
    pub(crate) verbosity_steps: i32,
    /// Settings by `--option NAME VALUE` and `--NAME VALUE`, in the order of the command line.
    pub(crate) settings: Vec<(String, String)>,
}

/// The flag `--print-build-logs` of commands that build.
pub(crate) const LOGS_FLAG: &str = "print-build-logs";

/// The forms of `--log-format`.
const LOG_FORMATS: [&str; 5] = ["bar", "bar-with-logs", "raw", "raw-with-logs", "internal-json"];

/// Adds the options to a command.
pub(crate) fn add(command: Command) -> Command {
    command.next_help_heading(HEADING).args([
        Arg::new("store")
            .long("store")
            .value_name("URL|DIR")
            .help("Store to work on: 'local', 'local?root=DIR', or a directory for a store below it")
            .long_help(
                "Store to work on: 'local' (the one of this machine), 'local?root=DIR' or just DIR (a store of its own \
                 below a directory, whose paths are still /nix/store/…); for some commands 'daemon' or 'unix://SOCKET', the store \
                 behind a daemon, or 'ssh-ng://HOST', that of another machine. Default: NIX_REMOTE, else the local store; for a \
                 user who may not write it, that of the daemon, or a store below the user's data directory.",
            ),
        Arg::new("log-format")
            .long("log-format")
            .value_name("FORMAT")
            .value_parser(LOG_FORMATS)
            .help("How to show what happens, on standard error")
            .long_help(
                "How to show what happens, on standard error: 'bar' draws status lines if standard error is a terminal \
                 (the default), 'raw' prints plain lines, '-with-logs' adds the output of builders, and 'internal-json' \
                 prints one record per line for other programs.",
            ),
        Arg::new("option")
            .long("option")
            .num_args(2)
            .value_names(["NAME", "VALUE"])
            .action(ArgAction::Append)
            .help("Set a setting, as a line of nix.conf would"),
        Arg::new("verbose")
            .short('v')
            .long("verbose")
            .action(ArgAction::Count)
            .help("Show more; may be repeated"),
        Arg::new("quiet").long("quiet").action(ArgAction::Count).help("Show less; may be repeated"),
    ])
}

impl GlobalOptions {
    /// Joins what stands at the levels of a command line, outermost first; of what can be said once, the innermost wins.
    pub(crate) fn collect(levels: &[&ArgMatches]) -> Self {
        let mut joined = Self::default();
        for level in levels {
            let text = |name: &str| level.get_one::<String>(name).cloned();
            joined.store = text("store").or(joined.store);
            joined.log_format = text("log-format").and_then(|name| name.parse().ok()).or(joined.log_format);
            joined.shows_logs |= level.try_get_one(LOGS_FLAG).ok().flatten().copied().unwrap_or(false);
            joined.verbosity_steps +=
                i32::from(level.get_count("verbose")) - i32::from(level.get_count("quiet"));
            let mut given = setting_options::collect(level);
            given.extend(pairs(level));
            given.sort_by_key(|(position, ..)| *position);
            joined.settings.extend(given.into_iter().map(|(_, name, value)| (name, value)));
        }
        joined
    }

    /// The value that the command line gives to a setting in the end.
    pub(crate) fn last(&self, setting: &str) -> Option<&str> {
        self.settings.iter().rfind(|(name, _)| name == setting).map(|(_, value)| value.as_str())
    }
}

/// The uses of `--option` at one level: position on the command line, name, value.
fn pairs(level: &ArgMatches) -> Vec<(usize, String, String)> {
    let occurrences = level.get_occurrences::<String>("option").unwrap_or_default();
    // Each of the two values has a position.
    let positions = level.indices_of("option").into_iter().flatten().step_by(2);
    positions
        .zip(occurrences)
        .filter_map(|(position, mut pair)| Some((position, pair.next()?.clone(), pair.next()?.clone())))
        .collect()
}
