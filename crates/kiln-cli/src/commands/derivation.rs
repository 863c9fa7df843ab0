//! `kiln derivation`: derivations as values to look at and to make.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _};

use clap::{Arg, ArgAction, ArgMatches, Command};
use kiln_derivation::{Derivation, HashModuloCache, JsonLayout, JsonVersion, fill_in_outputs, show_json};
use kiln_store_path::{StorePath, StorePathName};
use serde_json::Value;

use super::{Entry, Kind, Run};
use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{json, output, targets};

/// The longest derivation that is read, in bytes.
const MAX_JSON: u64 = 64 << 20;

pub(super) const ENTRY: Entry = Entry {
    name: "derivation",
    purpose: "Show, make and plan derivations",
    description: "A derivation says what to build and from what; it is a file in the store whose name ends in '.drv'.",
    kind: Kind::Group(&[SHOW, ADD, PLAN]),
};

const SHOW: Entry = Entry {
    name: "show",
    purpose: "Print derivations as JSON",
    description: "Prints derivations in the format of 'nix derivation show'. A store path stands for the derivation that \
        made it, if the store knows it.",
    kind: Kind::Run(Run {
        arguments: |command| {
            let recursive = Arg::new("recursive").short('r').long("recursive").action(ArgAction::SetTrue);
            json_version(command.arg(targets::argument().num_args(1..).required(true)))
                .arg(recursive.help("Also print all derivations that these need"))
        },
        takes_settings: false,
        examples: &[
            ("kiln derivation show :hello", "a derivation of ./kiln.toml"),
            ("kiln derivation show -r ./result", "what a result was made by, and all that this needed"),
        ],
        exit_codes: &[],
        run: show,
    }),
};

const ADD: Entry = Entry {
    name: "add",
    purpose: "Add a derivation given as JSON to the store",
    description: "Reads one derivation from standard input, as one of the values that 'kiln derivation show' prints, adds \
        it to the store and prints its path. Outputs that are left open ('{}') are filled in; those that are stated must \
        be right.",
    kind: Kind::Run(Run {
        arguments: |command| {
            let name = Arg::new("name").long("name").value_name("NAME");
            json_version(command)
                .arg(name.help("The derivation's name, for version 1 of the format, which does not state it"))
        },
        takes_settings: false,
        examples: &[(
            "kiln derivation show :hello | jq '.derivations[]' | kiln derivation add",
            "add what is there already, which changes nothing",
        )],
        exit_codes: &[],
        run: add,
    }),
};

const PLAN: Entry = Entry {
    name: "plan",
    purpose: "Show how derivations would be built",
    description: "Prints, without building anything, what a build would do: the builder with its arguments, environment \
        and files, where outputs are made, and what its sandbox holds. The derivation's inputs must be in the store.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.arg(targets::argument().num_args(1..).required(true)).arg(json::argument())
        },
        takes_settings: true,
        examples: &[
            ("kiln derivation plan :hello", "for people"),
            ("kiln derivation plan --json --no-sandbox :hello", "for programs, without a sandbox"),
        ],
        exit_codes: &[],
        run: plan,
    }),
};

fn json_version(command: Command) -> Command {
    command.arg(
        Arg::new("json-version")
            .long("json-version")
            .value_name("N")
            .value_parser(["1", "2", "3", "4"])
            .default_value("4")
            .help("Version of the JSON format: 4 is that of Nix 2.33 and later, 1 that of Nix up to 2.22"),
    )
}

fn chosen_version(matches: &ArgMatches) -> JsonVersion {
    match matches.get_one::<String>("json-version").map(String::as_str) {
        Some("1") => JsonVersion::V1,
        Some("2") => JsonVersion::V2,
        Some("3") => JsonVersion::V3,
        _ => JsonVersion::V4,
    }
}

fn show(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let mut open = VecDeque::from(targets::derivations(&session, &invocation.values::<String>("target"))?);
    let mut shown: BTreeMap<StorePath, Derivation> = BTreeMap::new();
    while let Some(path) = open.pop_front() {
        if shown.contains_key(&path) {
            continue;
        }
        let derivation = session.wait(session.store.read_derivation(&path))?;
        if invocation.flag("recursive") {
            open.extend(derivation.input_derivations.keys().cloned());
        }
        shown.insert(path, Derivation::clone(&derivation));
    }
    let version = chosen_version(invocation.matches);
    let mut text = show_json(&shown, session.store_dir(), version, JsonLayout::Indented)?;
    text.push(b'\n');
    output::print(text)?;
    Ok(0)
}

fn add(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let mut text = Vec::new();
    io::stdin().lock().take(MAX_JSON + 1).read_to_end(&mut text).doing(|| "reading the derivation")?;
    if text.len() as u64 > MAX_JSON {
        return Err(Failure::input(format!("the derivation has more than {MAX_JSON} bytes")));
    }
    let name = invocation.text("name").map(StorePathName::new).transpose()?;
    let version = chosen_version(invocation.matches);
    let mut derivation = Derivation::parse_json(&text, name.as_ref(), session.store_dir(), version)?;
    let mut hashes = HashModuloCache::new(session.store_dir().clone());
    hashes.load_inputs(&derivation, |path| {
        session.wait(session.store.read_derivation(path)).map(|derivation| Derivation::clone(&derivation))
    })?;
    fill_in_outputs(&mut derivation, &hashes)?;
    let file = derivation.to_file(session.store_dir())?;
    let added = session.wait(session.store.add_text(&file.path.to_name(), file.text, file.references))?;
    output::print(session.print(&added.path) + "\n")?;
    Ok(0)
}

fn plan(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let session = Session::open(invocation)?;
    let derivations = targets::derivations(&session, &invocation.values::<String>("target"))?;
    let engine = session.engine(invocation)?;
    let mut plans = Vec::new();
    for path in &derivations {
        plans.push(session.wait(engine.plan(path))?);
    }
    output::print(if invocation.flag("json") {
        json::pretty(&plans.iter().map(|plan| plan.to_json(session.store_dir())).collect::<Value>())
    } else {
        plans.iter().map(ToString::to_string).collect::<Vec<String>>().join("\n")
    })?;
    Ok(0)
}
