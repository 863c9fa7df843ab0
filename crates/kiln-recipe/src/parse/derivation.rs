//! Derivations: `[derivation.NAME]`, and `[defaults]` for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_derivation::Addressing;
use kiln_hash::{Algorithm, Hash};
use kiln_store_path::{ContentAddressMethod, OutputName};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Parser;
use super::attributes::{Attributes, type_name};
use crate::error::{Mistake, Problem};
use crate::source_text::{Span, shown};
use crate::syntax::{Defaults, DerivationDeclaration, Outputs, StatedAddressing, Value, visit};

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
    for (name, value) in env {
        let reason = if outputs.names.iter().any(|output| output.as_str() == name) {
            "it holds the path of the output with this name"
        } else if !structured && name.is_empty() {
            "a variable needs a name"
        } else if !structured && name.contains('=') {
            "no environment variable has '=' in its name"
        } else {
            continue;
        };
        let problem = Problem::InvalidVariable { place: attributes.place.clone(), name: shown(name), reason };
        return Err(Mistake::new(problem, value.span()));
    }
    if structured {
        return Ok(());
    }
    for (name, value) in env {
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
    if names.is_empty() {
        return Err(Mistake::new(Problem::NoOutputs(derivation.to_owned()), list.span()));
    }
    Ok(Outputs { names, stated: true })
}

/// How the outputs get their paths, if not by the derivation.
fn read_addressing(
    attributes: &Attributes<'_, '_>,
    derivation: &str,
    outputs: &Outputs,
) -> Result<Option<StatedAddressing>, Mistake> {
    let hash = attributes.string("outputHash")?;
    let algorithm = attributes.string("outputHashAlgo")?;
    let mode = attributes.string("outputHashMode")?;
    let known_algorithm = algorithm.as_ref().map(|name| read_algorithm(attributes, name)).transpose()?;
    if let Some(mode) = &mode {
        check_mode(attributes, mode)?;
    }
    let mut ways = Vec::new();
    if let Some((key, _)) = attributes.get("outputHash") {
        ways.push(("outputHash", key.span()));
    }
    for way in ["contentAddressed", "impure"] {
        if let Some((key, _)) = attributes.get(way).filter(|_| attributes.boolean(way).unwrap_or(true)) {
            attributes.boolean(way)?;
            ways.push((way, key.span()));
        }
    }
    let (way, at) = match ways.as_slice() {
        [] => {
            let stray = ["outputHashAlgo", "outputHashMode"].iter().find_map(|key| attributes.get(key));
            return match stray {
                None => Ok(None),
                Some((key, _)) => Err(Mistake {
                    at: Some(key.span()),
                    ..attributes
                        .missing("outputHash")
                        .help("without a hash, its algorithm and mode say nothing")
                }),
            };
        }
        [one] => one.clone(),
        [(one, _), (other, at), ..] => {
            let problem = Problem::Conflict { place: attributes.place.clone(), one, other };
            return Err(Mistake::new(problem, at.clone()));
        }
    };
    let [algorithm, mode] = [algorithm, mode].map(|text| text.map(Spanned::into_inner));
    let addressing = match (way, hash) {
        ("outputHash", Some(hash)) => {
            check_fixed(&hash, known_algorithm, derivation, outputs, attributes)?;
            Addressing::Fixed { hash: hash.into_inner(), algorithm, mode }
        }
        ("impure", _) => Addressing::Impure { algorithm, mode },
        _ => Addressing::Floating { algorithm, mode },
    };
    Ok(Some(StatedAddressing { at, addressing }))
}

fn read_algorithm(attributes: &Attributes<'_, '_>, name: &Spanned<String>) -> Result<Algorithm, Mistake> {
    name.get_ref().parse().map_err(|_| {
        let problem = Problem::WrongValue {
            what: attributes.what("outputHashAlgo"),
            expected: "'sha256', 'sha512', 'sha1', 'md5' or 'blake3'",
            found: shown(name.get_ref()),
        };
        Mistake::new(problem, name.span())
    })
}

fn check_mode(attributes: &Attributes<'_, '_>, mode: &Spanned<String>) -> Result<(), Mistake> {
    if ContentAddressMethod::from_name(mode.get_ref()).is_some() {
        return Ok(());
    }
    let problem = Problem::WrongValue {
        what: attributes.what("outputHashMode"),
        expected: "'flat', 'recursive', 'nar', 'text' or 'git'",
        found: shown(mode.get_ref()),
    };
    Err(Mistake::new(problem, mode.span()))
}

fn check_fixed(
    hash: &Spanned<String>,
    algorithm: Option<Algorithm>,
    derivation: &str,
    outputs: &Outputs,
    attributes: &Attributes<'_, '_>,
) -> Result<(), Mistake> {
    // An empty hash stands for one that is not known yet; its algorithm must be.
    if !(hash.get_ref().is_empty() && algorithm.is_some()) {
        Hash::parse_any(hash.get_ref(), algorithm).map_err(|error| {
            Mistake::new(error, hash.span()).help(
                "to be told the right hash by the first build, write outputHash = \"\" and outputHashAlgo = \"sha256\"",
            )
        })?;
    }
    if matches!(outputs.names.as_slice(), [name] if name.is_out()) {
        return Ok(());
    }
    let at = attributes.get("outputs").map_or(attributes.at.clone(), |(_, list)| list.span());
    Err(Mistake::new(Problem::FixedOutputs(derivation.to_owned()), at))
}
