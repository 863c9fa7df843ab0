//! Derivations: `[derivation.NAME]`, and `[defaults]` for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_store_path::OutputName;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Parser;
use super::addressing::read_addressing;
use super::attributes::{Attributes, type_name};
use crate::error::{Mistake, Problem};
use crate::source_text::{Span, shown};
use crate::syntax::{Defaults, DerivationDeclaration, Outputs, Value, visit};

/// Attributes that derivations and defaults have.
const COMMON: [&str; 5] = ["system", "builder", "args", "env", "structuredAttrs"];
/// Attributes that only derivations have.
const OWN: [&str; 7] =
    ["name", "outputs", "outputHash", "outputHashAlgo", "outputHashMode", "contentAddressed", "impure"];
/// Variables that say something else about a derivation.
const RESERVED: [&str; 13] = [
    "name",
    "system",
    "builder",
    "args",
    "outputs",
    "outputHash",
    "outputHashAlgo",
    "outputHashMode",
    "__json",
    "__structuredAttrs",
    "__contentAddressed",
    "__impure",
    "__ignoreNulls",
];

/// How many outputs a derivation may have; they are looked for one by one.
const MAX_OUTPUTS: usize = 1_000;

type Environment = BTreeMap<String, Arc<Spanned<Value>>>;

impl<'t> Parser<'t> {
    /// Reads `[defaults]`.
    pub(super) fn defaults(&mut self, at: Span, table: &DeTable<'t>) -> Result<Defaults, Mistake> {
        let attributes = Attributes::new("the defaults".to_owned(), at, table, &COMMON, None)?;
        self.common(&attributes)
    }

    /// The attributes that can stand in both tables.
    fn common(&mut self, attributes: &Attributes<'_, 't>) -> Result<Defaults, Mistake> {
        let builder = match attributes.get("builder") {
            Some((_, value)) => Some(Arc::new(self.value(attributes, "builder", value)?)),
            None => None,
        };
        let args = match attributes.get("args") {
            None => None,
            Some((_, value)) => match value.get_ref() {
                DeValue::Array(items) => Some(
                    items
                        .iter()
                        .map(|item| self.value(attributes, "args", item))
                        .collect::<Result<_, _>>()?,
                ),
                _ => return Err(attributes.wrong_type("args", "an array", value)),
            },
        };
        let mut env = Environment::new();
        if let Some((_, value)) = attributes.get("env") {
            for (key, value) in attributes.table("env", value)? {
                check_variable(attributes, key)?;
                env.insert(
                    key.get_ref().to_string(),
                    Arc::new(self.value(attributes, key.get_ref(), value)?),
                );
            }
        }
        Ok(Defaults {
            system: attributes.string("system")?.map(Spanned::into_inner),
            builder,
            args,
            env,
            structured: attributes.boolean("structuredAttrs")?,
        })
    }

    /// Reads a `[derivation.NAME]` and fills in the defaults.
    pub(super) fn derivation(
        &mut self,
        key: &Spanned<DeString<'t>>,
        value: &Spanned<DeValue<'t>>,
        defaults: &Defaults,
    ) -> Result<DerivationDeclaration, Mistake> {
        let place = format!("derivation '{}'", key.get_ref());
        let Some(table) = value.get_ref().as_table() else {
            let found = type_name(value.get_ref());
            let mistake =
                Mistake::new(Problem::WrongType { what: place, expected: "a table", found }, value.span());
            return Err(
                mistake.help("a derivation is written '[derivation.NAME]', with its attributes below")
            );
        };
        let known: Vec<&str> = OWN.into_iter().chain(COMMON).collect();
        let advice = "variables for the builder belong into 'env'";
        let attributes = Attributes::new(place, key.span(), table, &known, Some(advice))?;
        let own = self.common(&attributes)?;
        let name = match attributes.store_name()? {
            Some(name) => name,
            None => attributes.check_store_name(key.get_ref(), key.span())?,
        };
        let builder = own.builder.or_else(|| defaults.builder.clone());
        let outputs = read_outputs(&attributes, key.get_ref())?;
        let structured = match attributes.get("structuredAttrs") {
            Some(_) => own.structured,
            None => defaults.structured,
        };
        let mut env = defaults.env.clone();
        env.extend(own.env);
        check_environment(&attributes, &env, &outputs, structured)?;
        Ok(DerivationDeclaration {
            at: key.span(),
            name,
            system: own.system.or_else(|| defaults.system.clone()),
            builder: builder.ok_or_else(|| attributes.missing("builder"))?,
            args: own.args.or_else(|| defaults.args.clone()).unwrap_or_default(),
            addressing: read_addressing(&attributes, key.get_ref(), &outputs)?,
            outputs,
            structured,
            env,
        })
    }
}

impl Defaults {
    /// How many values there are, counting those within others.
    pub(super) fn count(&self) -> usize {
        let mut count = 0;
        let args = self.args.as_deref().unwrap_or_default().iter();
        let own = self.builder.iter().chain(self.env.values()).map(Arc::as_ref);
        for value in args.chain(own) {
            visit(value, |value| {
                count += match value.get_ref() {
                    Value::Text(template) => template.segments.len().max(1),
                    _ => 1,
                }
            });
        }
        count
    }
}

/// Checks the name of a variable by itself.
fn check_variable(attributes: &Attributes<'_, '_>, key: &Spanned<DeString<'_>>) -> Result<(), Mistake> {
    let name = key.get_ref().as_ref();
    attributes.check_nul("env", name, key.span())?;
    if !RESERVED.contains(&name) {
        return Ok(());
    }
    let reason = "it says something else about a derivation";
    let problem = Problem::InvalidVariable { place: attributes.place.clone(), name: name.to_owned(), reason };
    let mistake = Mistake::new(problem, key.span());
    let attribute = name.trim_start_matches('_');
    Err(if OWN.contains(&attribute) || COMMON.contains(&attribute) {
        mistake.help(format!("'{attribute}' is an attribute, to be written beside 'env'"))
    } else {
        mistake
    })
}

/// Checks the variables of a derivation, the defaults among them, with its other attributes.
fn check_environment(
    attributes: &Attributes<'_, '_>,
    env: &Environment,
    outputs: &Outputs,
    structured: bool,
) -> Result<(), Mistake> {
    let invalid = |name: &str, value: &Spanned<Value>, reason| {
        let problem = Problem::InvalidVariable { place: attributes.place.clone(), name: shown(name), reason };
        Mistake::new(problem, value.span())
    };
    for output in &outputs.names {
        if let Some(value) = env.get(output.as_str()) {
            return Err(invalid(output.as_str(), value, "it holds the path of the output with this name"));
        }
    }
    if structured {
        return Ok(());
    }
    for (name, value) in env {
        if name.is_empty() {
            return Err(invalid(name, value, "a variable needs a name"));
        }
        if name.contains('=') {
            return Err(invalid(name, value, "no environment variable has '=' in its name"));
        }
        let mut table = None;
        visit(value, |value| {
            if let Value::Table(_) = value.get_ref() {
                table = table.take().or_else(|| Some(value.span()));
            }
        });
        if let Some(at) = table {
            let problem = Problem::WrongType {
                what: attributes.what(name),
                expected: "a string, a number, a Boolean, an array or a reference",
                found: "a table",
            };
            return Err(
                Mistake::new(problem, at).help("with 'structuredAttrs = true', variables can hold tables")
            );
        }
    }
    Ok(())
}

fn read_outputs(attributes: &Attributes<'_, '_>, derivation: &str) -> Result<Outputs, Mistake> {
    let Some((_, list)) = attributes.get("outputs") else {
        return Ok(Outputs { names: vec![OutputName::out()], stated: false });
    };
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    for text in attributes.strings("outputs")?.unwrap_or_default() {
        let name = OutputName::new(text.get_ref()).map_err(|error| {
            let place = format!("an output of {}", attributes.place);
            Mistake::new(Problem::InvalidStoreName { place, error }, text.span())
        })?;
        if !seen.insert(name.clone()) {
            let (derivation, output) = (derivation.to_owned(), name.to_string());
            return Err(Mistake::new(Problem::DuplicateOutput { derivation, output }, text.span()));
        }
        if name.as_str() == "drvPath" {
            let what = format!("an output of {}", attributes.place);
            let problem = Problem::WrongValue { what, expected: "another name", found: name.to_string() };
            return Err(
                Mistake::new(problem, text.span()).help("in Nix that is the path of the derivation itself")
            );
        }
        names.push(name);
    }
    if names.len() > MAX_OUTPUTS {
        return Err(Mistake::new(Problem::TooManyOutputs(MAX_OUTPUTS), list.span()));
    }
    if names.is_empty() {
        return Err(Mistake::new(Problem::NoOutputs(derivation.to_owned()), list.span()));
    }
    Ok(Outputs { names, stated: true })
}
