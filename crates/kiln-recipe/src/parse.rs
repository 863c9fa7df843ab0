//! From the text of a recipe to its [`Document`]: TOML, then what each table says. What names refer to is looked at
//! later ([`crate::resolve`]).

mod addressing;
mod attributes;
mod derivation;
mod nesting;
mod source;
mod value;

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use self::attributes::Attributes;
use self::nesting::check_nesting;
use crate::error::{Mistake, Problem};
use crate::interpolation::is_name;
use crate::source_text::{SourceText, Span, shown};
use crate::syntax::{Defaults, Document, SourceDeclaration};

/// The largest recipe that is read, in bytes.
pub(crate) const MAX_SIZE: usize = 1 << 20;
/// How deep values may be nested.
const MAX_DEPTH: usize = 64;
/// How many values all derivations may have together, with the defaults filled in.
const MAX_VALUES: usize = 1_000_000;

/// What is read so far.
struct Parser<'t> {
    text: &'t SourceText,
    /// Sources within values, in the order in which they were found.
    inline_sources: Vec<SourceDeclaration>,
}

/// The text of a recipe, and whether its size and encoding allow reading it; if not, the text is what of it can be shown.
pub(crate) fn decode(file: &str, bytes: &[u8]) -> (SourceText, Result<(), Mistake>) {
    let named = |text: String| SourceText { file: file.to_owned(), text };
    if bytes.len() > MAX_SIZE {
        let problem = Problem::TooLarge { size: bytes.len(), most: MAX_SIZE };
        return (named(String::new()), Err(Mistake::of_file(problem)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => (named(text.to_owned()), Ok(())),
        Err(error) => {
            let at = error.valid_up_to();
            let end = error.error_len().map_or(bytes.len(), |length| at + length);
            let mistake = Mistake::new(Problem::NotUtf8, at..end).help("save the file as UTF-8");
            (named(String::from_utf8_lossy(bytes).into_owned()), Err(mistake))
        }
    }
}

/// Reads a recipe.
pub(crate) fn parse(text: &SourceText) -> Result<Document, Mistake> {
    check_nesting(&text.text)?;
    let root = DeTable::parse(&text.text).map_err(|error| {
        let end = text.text.len();
        Mistake::new(Problem::Syntax(error.message().to_owned()), error.span().unwrap_or(end..end))
    })?;
    let mut parser = Parser { text, inline_sources: Vec::new() };
    let known = ["default", "defaults", "source", "derivation"];
    let file = Attributes::new("the recipe".to_owned(), 0..0, root.get_ref(), &known, None)?;

    let default = match file.get("default") {
        None => Vec::new(),
        Some((_, value)) if value.get_ref().is_str() => vec![file.text("default", value)?],
        Some((_, value)) => file.texts("default", value, "a string or an array of strings")?,
    };
    let mut sources = BTreeMap::new();
    for (key, value) in declarations(&file, "source")? {
        sources.insert(key.get_ref().to_string(), parser.named_source(key, value)?);
    }
    let defaults = match file.get("defaults") {
        Some((key, value)) => parser.defaults(key.span(), file.table("defaults", value)?)?,
        None => Defaults::default(),
    };
    let default_values = defaults.count();
    let (mut derivations, mut values) = (BTreeMap::new(), 0);
    for (key, value) in declarations(&file, "derivation")? {
        let derivation = parser.derivation(key, value, &defaults)?;
        values += default_values + 1;
        if values > MAX_VALUES {
            return Err(Mistake::new(Problem::TooManyValues(MAX_VALUES), key.span()));
        }
        derivations.insert(key.get_ref().to_string(), derivation);
    }
    Ok(Document { default, sources, inline_sources: parser.inline_sources, derivations })
}

type Entry<'e, 't> = (&'e Spanned<DeString<'t>>, &'e Spanned<DeValue<'t>>);

/// The entries of `[source.…]` or `[derivation.…]`, in the order of the file, their names checked.
fn declarations<'e, 't>(
    file: &Attributes<'e, 't>,
    kind: &'static str,
) -> Result<Vec<Entry<'e, 't>>, Mistake> {
    let Some((_, value)) = file.get(kind) else { return Ok(Vec::new()) };
    let mut entries: Vec<Entry<'e, 't>> = file.table(kind, value)?.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, _) in &entries {
        check_name(kind, key.get_ref(), key.span())?;
    }
    Ok(entries)
}

fn check_name(kind: &'static str, name: &str, at: Span) -> Result<(), Mistake> {
    let is_source = kind == "source";
    let reason = if !is_name(name) {
        "names have up to 128 letters, digits, '_' and '-', and begin with a letter or '_'"
    } else if !is_source && matches!(name, "source" | "placeholder") {
        "references to it would mean something else"
    } else {
        return Ok(());
    };
    let kind = if is_source { "a source" } else { "a derivation" };
    let mut mistake = Mistake::new(Problem::InvalidName { kind, name: shown(name), reason }, at);
    if !is_source && !is_name(name) {
        mistake = mistake.help("the attribute 'name' can have dots, for the name in the store");
    }
    Err(mistake)
}
