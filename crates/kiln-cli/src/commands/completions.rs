//! `kiln completions` and `kiln manual`: what packagers make from the table of commands.

use std::path::PathBuf;

use clap::{Arg, value_parser};
use clap_complete::Shell;

use super::{Entry, Kind, Run};
use crate::command_line;
use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::output;

pub(super) const COMPLETIONS: Entry = Entry {
    name: "completions",
    purpose: "Print completions for a shell",
    description: "Prints a script that makes a shell complete the commands and options of kiln.",
    kind: Kind::Run(Run {
        arguments: |command| {
            let shell =
                Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
            command.arg(shell.help("The shell to complete for"))
        },
        takes_settings: false,
        examples: &[
            ("source <(kiln completions bash)", "complete in this shell"),
            (
                "kiln completions fish > ~/.config/fish/completions/kiln.fish",
                "complete in all that are to come",
            ),
        ],
        exit_codes: &[],
        run: |invocation| {
            let Some(&shell) = invocation.matches.get_one::<Shell>("shell") else { return Ok(0) };
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command_line::definition(), "kiln", &mut script);
            output::print(script)?;
            Ok(0)
        },
    }),
};

pub(super) const MANUAL: Entry = Entry {
    name: "manual",
    purpose: "Write the manual pages into a directory",
    description: "Writes one page per command, kiln.1, kiln-build.1 and so on, as installed under share/man/man1.",
    kind: Kind::Run(Run {
        arguments: |command| {
            let directory = Arg::new("directory").value_name("DIR").required(true);
            command.arg(directory.value_parser(value_parser!(PathBuf)).help("Where to write the pages"))
        },
        takes_settings: false,
        examples: &[("kiln manual $out/share/man/man1", "what a package of Kiln does")],
        exit_codes: &[],
        run: write_manual,
    }),
};

fn write_manual(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    for directory in invocation.values::<PathBuf>("directory") {
        std::fs::create_dir_all(&directory)
            .and_then(|()| clap_mangen::generate_to(command_line::definition(), &directory))
            .doing(|| format!("writing the manual pages into '{}'", directory.display()))?;
    }
    Ok(0)
}
