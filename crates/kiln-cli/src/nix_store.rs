//! `nix-store`: the operations of real Nix's program of that name, with its options, output and exit codes (those of 2.8, with
//! what later versions added to queries), for the scripts that call it.
//!
//! Its command line is not clap's: one of the words is the [operation](operation), wherever it stands; options that all
//! operations have are taken out of the line; what is left is the operation's own. Results go to standard output byte for
//! byte as Nix prints them. What is told on standard error reads as Nix tells it where scripts may look at it.

mod add;
mod archive;
mod collect;
mod command_line;
mod derivation;
mod key;
mod operation;
mod paths;
mod query;
mod realise;
mod registration;
mod transfer;
mod upkeep;
mod work;

use std::ffi::OsString;

use clap::{Arg, value_parser};
use kiln_console::LogFormat;

use crate::command_line::GlobalOptions;
use crate::commands::{Entry, Kind, Run};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::nix_store::command_line::CommandLine;
use crate::nix_store::work::Work;
use crate::terminal::Terminal;

/// What the program is called.
pub(crate) const NAME: &str = "nix-store";

pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    purpose: "Do what the 'nix-store' of real Nix does, for scripts",
    description: "Takes the operations and options of 'nix-store' 2.8, prints what it prints and ends with its exit codes: \
        --realise (-r), --query (-q), --add, --add-fixed, --print-fixed-path, --delete, --gc, --dump, --restore, --export, \
        --import, --init, --verify, --verify-path, --repair-path, --optimise, --read-log (-l), --print-env, --dump-db, \
        --load-db, --register-validity, --check-validity, --generate-binary-cache-key, --serve, --version. The manual of real Nix \
        tells of them. A link of the name 'nix-store' to this program is this command. With a daemon as the store, --realise, \
        --query and --add have it do the work.",
    kind: Kind::Run(Run {
        arguments: |command| {
            let words = Arg::new("word").value_name("OPERATION OPTION PATH").num_args(0..);
            let words = words.trailing_var_arg(true).allow_hyphen_values(true);
            command.arg(words.value_parser(value_parser!(OsString)).help("The command line of nix-store"))
        },
        takes_settings: false,
        examples: &[
            ("kiln nix-store --query --requisites ./result", "all that a result refers to"),
            ("kiln nix-store --realise /nix/store/…-hello.drv --add-root ./hello", "build, and leave a link"),
        ],
        exit_codes: &[
            ("100", "a build failed"),
            ("101", "a build timed out"),
            ("102", "a fixed output had another hash than stated"),
            ("104", "a build was repeated and gave something else"),
        ],
        run: |invocation| {
            invocation.terminal.finish();
            let words = invocation.values::<OsString>("word");
            Ok(run(invocation.environment, invocation.global.clone(), &words))
        },
    }),
};

/// Runs the command line `words` and returns the exit code; `global` is what was said before it.
pub(crate) fn run(environment: &Environment, mut global: GlobalOptions, words: &[OsString]) -> u8 {
    // Programs of old show what builders print.
    global.log_format.get_or_insert(LogFormat::RawWithLogs);
    let parsed = CommandLine::parse(words, global.clone());
    let terminal = Terminal::open(parsed.as_ref().map_or(&global, |line| &line.global));
    let ended = parsed.and_then(|line| {
        let work = Work::new(&line, environment, &terminal);
        (line.operation.run)(&work)
    });
    let exit_code = ended.unwrap_or_else(|failure| {
        terminal.error(&failure);
        failure.exit_code()
    });
    terminal.finish();
    exit_code
}

/// Wrong use of the program, with the way to its help.
fn usage(message: impl std::fmt::Display) -> Failure {
    Failure::input(message).with_help_of(NAME)
}
