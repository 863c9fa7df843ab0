//! The parts of `--help` that follow the lists of options.

use std::fmt::Write as _;

use crate::commands::{GENERAL_EXIT_CODES, Run};

/// What Kiln is, for `kiln --help`.
pub(crate) const PROGRAM_DESCRIPTION: &str = "\
A Nix-compatible store and build engine.

Kiln builds derivations in a sandbox and keeps what they make in a store that Nix can use as its own, as Kiln can use \
one that Nix made. What to build is said by a recipe (kiln.toml) or by a derivation that is in the store already.";

const PROGRAM_EXAMPLES: [(&str, &str); 4] = [
    ("kiln build", "build the default target of ./kiln.toml and link it as ./result"),
    ("kiln store info ./result", "what the store knows about it"),
    ("kiln log ./result", "what its builder printed"),
    ("kiln help store add", "help for one command"),
];

const ENVIRONMENT: [(&str, &str); 6] = [
    ("NIX_REMOTE", "store to work on, if --store is not given"),
    ("NIX_STORE_DIR", "where store paths live; also NIX_STATE_DIR and NIX_LOG_DIR"),
    ("NIX_CONF_DIR", "directory of the system's nix.conf (default /etc/nix)"),
    ("NIX_USER_CONF_FILES", "the user's configuration files, separated by colons"),
    ("NIX_CONFIG", "more lines of configuration, which win over the files"),
    ("NO_COLOR", "if set, no colours"),
];

/// The end of `kiln --help`.
pub(crate) fn program_end() -> String {
    let mut text = String::new();
    examples(&mut text, &PROGRAM_EXAMPLES);
    definitions(&mut text, "Environment", &ENVIRONMENT);
    definitions(&mut text, "Exit codes", &GENERAL_EXIT_CODES);
    text.truncate(text.trim_end().len());
    text
}

/// The end of the help of one command: examples, and exit codes.
pub(crate) fn command_end(run: &Run) -> String {
    let mut text = String::new();
    if run.takes_settings {
        text.push_str(
            "Every setting of nix.conf is an option too: --NAME VALUE, or --NAME and --no-NAME for what is true or \
             false, and --extra-NAME VALUE to add to a list. 'kiln config describe' explains them.\n\n",
        );
    }
    examples(&mut text, run.examples);
    let codes: Vec<_> = GENERAL_EXIT_CODES.iter().chain(run.exit_codes).copied().collect();
    definitions(&mut text, "Exit codes", &codes);
    text.truncate(text.trim_end().len());
    text
}

fn examples(text: &mut String, examples: &[(&str, &str)]) {
    text.push_str("Examples:\n");
    for (line, effect) in examples {
        let _ = write!(text, "  $ {line}\n      {effect}\n");
    }
    text.push('\n');
}

fn definitions(text: &mut String, heading: &str, definitions: &[(&str, &str)]) {
    let width = definitions.iter().map(|(term, _)| term.len()).max().unwrap_or(0);
    let _ = writeln!(text, "{heading}:");
    for (term, meaning) in definitions {
        let _ = writeln!(text, "  {term:width$}  {meaning}");
    }
    text.push('\n');
}
