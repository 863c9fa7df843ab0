//! `kiln config`: what is set, by whom, and what it means.

use clap::{Arg, ArgAction};
use kiln_settings::{Configuration, Kind as ValueKind, Scope, Setting, TABLE, find_setting};
use serde_json::Value;

use super::{Entry, Kind, Run};
use crate::configuration;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::{json, machine, output};

pub(super) const ENTRY: Entry = Entry {
    name: "config",
    purpose: "Show and explain the settings",
    description: "Settings come from the system's nix.conf, the user's nix.conf, NIX_CONFIG and the command line; what \
        comes later wins.",
    kind: Kind::Group(&[SHOW, DESCRIBE]),
};

const SHOW: Entry = Entry {
    name: "show",
    purpose: "Show the values of settings",
    description: "Prints all settings as lines of nix.conf, with a comment that says where a value comes from unless it \
        is the default. With NAME, prints just the value of that setting.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.args([
                Arg::new("name").value_name("NAME").help("Setting to show, by its name or an older one"),
                Arg::new("changed")
                    .long("changed")
                    .action(ArgAction::SetTrue)
                    .conflicts_with("name")
                    .help("Leave out what nobody set"),
                json::argument(),
            ])
        },
        takes_settings: true,
        examples: &[
            ("kiln config show", "all settings"),
            ("kiln config show max-jobs", "one value"),
            ("kiln config show --changed --option cores 2", "what was set, and where"),
            ("kiln config show --json sandbox", "value, default, origins and description as JSON"),
        ],
        exit_codes: &[],
        run: show,
    }),
};

const DESCRIBE: Entry = Entry {
    name: "describe",
    purpose: "Explain settings",
    description: "Prints, for all settings or for those that are named, what they do, what values they take, their \
        default on this machine and who may set them.",
    kind: Kind::Run(Run {
        arguments: |command| {
            command.arg(Arg::new("name").value_name("NAME").num_args(0..).help("Settings to explain"))
        },
        takes_settings: false,
        examples: &[("kiln config describe sandbox-paths", "what may be written there")],
        exit_codes: &[],
        run: describe,
    }),
};

fn show(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let configuration =
        configuration::load(invocation.environment, invocation.global, &invocation.terminal.events)?;
    let is_json = invocation.flag("json");
    if let Some(name) = invocation.text("name") {
        let setting = find(name)?;
        let value = if is_json {
            json::pretty(configuration.to_json().get(setting.name).unwrap_or(&Value::Null))
        } else {
            setting.show(configuration.settings()) + "\n"
        };
        output::print(value)?;
        return Ok(0);
    }
    let is_shown =
        |setting: &&Setting| !invocation.flag("changed") || !configuration.origins(setting).is_empty();
    let shown = TABLE.iter().filter(is_shown);
    if is_json {
        let mut rows = configuration.to_json();
        if let Some(rows) = rows.as_object_mut() {
            let names: Vec<&str> = shown.map(|setting| setting.name).collect();
            rows.retain(|name, _| names.contains(&name.as_str()));
        }
        output::print(json::pretty(&rows))?;
    } else {
        output::print(shown.map(|setting| line(&configuration, setting)).collect::<String>())?;
    }
    Ok(0)
}

/// A setting as a line of nix.conf, with its origin as a comment.
fn line(configuration: &Configuration, setting: &Setting) -> String {
    let origins: Vec<String> = configuration.origins(setting).iter().map(ToString::to_string).collect();
    let assignment = format!("{} = {}", setting.name, setting.show(configuration.settings()));
    let comment = if origins.is_empty() { String::new() } else { format!(" # {}", origins.join(", ")) };
    format!("{}{comment}\n", assignment.trim_end())
}

fn describe(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let names = invocation.values::<String>("name");
    let settings: Vec<&Setting> = if names.is_empty() {
        TABLE.iter().collect()
    } else {
        names.iter().map(|name| find(name)).collect::<Result<_, _>>()?
    };
    let defaults = Configuration::new(&machine::detect(invocation.environment));
    let texts: Vec<String> = settings.into_iter().map(|setting| description(&defaults, setting)).collect();
    output::print(texts.join("\n"))?;
    Ok(0)
}

fn description(defaults: &Configuration, setting: &Setting) -> String {
    let mut lines = vec![setting.name.to_owned(), format!("  {}", setting.help)];
    lines.push(format!("  Value: {}", value_kind(setting.kind)));
    let default = setting.show(defaults.settings());
    lines.push(format!("  Default here: {}", if default.is_empty() { "(empty)" } else { &default }));
    if !setting.aliases.is_empty() {
        lines.push(format!("  Older names: {}", setting.aliases.join(", ")));
    }
    lines.push(format!("  Clients of a daemon who may set it: {}", scope(setting.scope)));
    lines.join("\n") + "\n"
}

fn value_kind(kind: ValueKind) -> String {
    match kind {
        ValueKind::Boolean => "true or false".to_owned(),
        ValueKind::Number => "a number; K, M, G and T stand for powers of 1024".to_owned(),
        ValueKind::Jobs => "a number, or auto".to_owned(),
        ValueKind::Text => "text".to_owned(),
        ValueKind::Words => "words, separated by blanks".to_owned(),
        ValueKind::Choice(words) => format!("one of {}", words.join(", ")),
        ValueKind::Store => "the URL of a store".to_owned(),
    }
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Anyone => "all",
        Scope::Limited => "all, within limits; trusted ones, without",
        Scope::Trusted => "trusted ones",
        Scope::System => "none",
    }
}

fn find(name: &str) -> Result<&'static Setting, Failure> {
    find_setting(name).ok_or_else(|| {
        Failure::input(format!("there is no setting '{name}'")).with_hint("'kiln config show' lists them all")
    })
}
