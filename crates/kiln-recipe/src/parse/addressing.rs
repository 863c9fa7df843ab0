//! How the outputs of a derivation get their paths: `outputHash` and its like, `contentAddressed`, `impure`.

use kiln_derivation::Addressing;
use kiln_hash::{Algorithm, Hash};
use kiln_store_path::ContentAddressMethod;
use toml::Spanned;

use super::attributes::Attributes;
use crate::error::{Mistake, Problem};
use crate::source_text::shown;
use crate::syntax::{Outputs, StatedAddressing};

/// How the outputs get their paths, if not by the derivation.
pub(super) fn read_addressing(
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
    for (way, is_stated) in [
        ("outputHash", hash.is_some()),
        ("contentAddressed", attributes.boolean("contentAddressed")?),
        ("impure", attributes.boolean("impure")?),
    ] {
        if is_stated && let Some((key, _)) = attributes.get(way) {
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
