//! `kiln build`: from targets to outputs, links to them, and a report of what failed.

mod answer;
pub(crate) mod missing;
pub(crate) mod report;

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};
use kiln_build::{BuildMode, BuildRequest};

use super::{Entry, Kind, Run};
use crate::command_line::LOGS_FLAG;
use crate::failure::Failure;
use crate::interrupt::or_interrupted;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{json, out_links, output, targets};

pub(super) const ENTRY: Entry = Entry {
    name: "build",
    purpose: "Build derivations",
    description: "Builds what the targets mean, and all that they need, unless it is in the store already. What will be \
        built is said first. The paths of the outputs are printed, and links to them are left in the working directory, \
        which also keep them from being collected as garbage: 'result' for the first target, 'result-1' for the second, \
        with '-OUTPUT' for outputs other than 'out'. Failures are reported together at the end, causes first.",
    kind: Kind::Run(Run {
        arguments,
        takes_settings: true,
        examples: &[
            ("kiln build", "the default target of ./kiln.toml"),
            ("kiln build examples/hello:hello.dev --no-link", "one output of one derivation of a recipe"),
            (
                "kiln build -L -j2 /nix/store/…-hello.drv^out",
                "a derivation in the store, with the log as it comes",
            ),
            ("kiln build --keep-going --cores 2 . ../other", "two recipes, as far as it goes"),
            ("kiln build --check --no-link", "whether the default target is made the same again"),
        ],
        exit_codes: &[
            ("100", "a build failed"),
            ("101", "a build timed out"),
            ("102", "a fixed output had another hash than stated"),
            ("104", "a build was repeated and gave something else"),
            (
                "…",
                "with --keep-going these add up: 96 and 4 (failed), 1 (timed out), 2 (hash), 8 (different)",
            ),
        ],
        run,
    }),
};

fn arguments(command: Command) -> Command {
    command.args([
        targets::argument().num_args(0..),
        Arg::new("out-link")
            .short('o')
            .long("out-link")
            .value_name("PATH")
            .default_value("result")
            .value_parser(value_parser!(PathBuf))
            .help("What the links to outputs are called"),
        Arg::new("no-link")
            .long("no-link")
            .action(ArgAction::SetTrue)
            .help("Leave no links: the outputs may be collected as garbage at any time"),
        Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help(
            "Say what would be built and build nothing; the derivations of recipes are added to the store",
        ),
        Arg::new("check").long("check").visible_alias("rebuild").action(ArgAction::SetTrue).help(
            "Build once more what is valid already, elsewhere, and tell where it differs; with --keep-failed, what differs is \
             kept beside the output, as PATH.check",
        ),
        Arg::new("repair").long("repair").action(ArgAction::SetTrue).conflicts_with("check").help(
            "Read the outputs that are valid, and all that they refer to, and build again what is not what it was",
        ),
        Arg::new(LOGS_FLAG)
            .short('L')
            .long(LOGS_FLAG)
            .action(ArgAction::SetTrue)
            .help("Show what builders print as it comes"),
        json::argument(),
    ])
}

fn run(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open_any(invocation)?;
    let mut named = invocation.values::<String>("target");
    if named.is_empty() {
        named.push(".".to_owned());
    }
    let targets = targets::wanted(&session, &named)?;
    let builder = session.builder(invocation)?;
    let dry_run = invocation.flag("dry-run");
    let work = async {
        let missing = builder.query_missing(&targets).await?;
        if session.settings.print_missing || dry_run {
            missing::tell(&missing, &session);
        }
        if dry_run {
            return Ok((missing, None));
        }
        let mode = match (invocation.flag("check"), invocation.flag("repair")) {
            (true, _) => BuildMode::Check,
            (_, true) => BuildMode::Repair,
            _ => BuildMode::Normal,
        };
        let request =
            BuildRequest { targets: targets.clone(), mode, keep_going: session.settings.keep_going };
        let answer = builder.build(request).await?;
        builder.idle().await;
        Ok((missing, Some(answer)))
    };
    let (missing, answer) = session.wait(or_interrupted(work, builder.idle()))?;
    let is_json = invocation.flag("json");
    let Some(answer) = answer else {
        if is_json {
            invocation.terminal.finish();
            output::print(json::pretty(&missing::json(&missing, session.store_dir())))?;
        }
        return Ok(0);
    };
    report::failures(&answer, &session, invocation.terminal);
    if !invocation.flag("no-link") {
        for prefix in invocation.values::<PathBuf>("out-link") {
            out_links::leave(&session, &prefix, &answer)?;
        }
    }
    invocation.terminal.finish();
    output::print(if is_json {
        json::pretty(&answer::json(&answer, session.store_dir()))
    } else {
        answer::paths(&answer, session.store_dir())
    })?;
    Ok(answer.exit_status)
}
