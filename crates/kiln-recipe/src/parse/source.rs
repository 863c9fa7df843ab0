//! Sources: `[source.NAME]`, and tables with a `path` within values.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Parser;
use super::attributes::Attributes;
use super::value::VERBATIM;
use crate::error::{Mistake, Problem};
use crate::filter::Filter;
use crate::source_text::{Span, shown};
use crate::syntax::{SourceDeclaration, SourceOrigin};

impl<'t> Parser<'t> {
    /// Reads a `[source.NAME]`.
    pub(super) fn named_source(
        &mut self,
        key: &Spanned<DeString<'t>>,
        value: &Spanned<DeValue<'t>>,
    ) -> Result<SourceDeclaration, Mistake> {
        let place = format!("source '{}'", key.get_ref());
        let Some(table) = value.get_ref().as_table() else {
            let problem = Problem::WrongType {
                what: place,
                expected: "a table",
                found: super::attributes::type_name(value.get_ref()),
            };
            let path =
                "a source is written '[source.NAME]' with the attribute 'path', or 'NAME = { path = \"…\" }'";
            return Err(Mistake::new(problem, value.span()).help(path));
        };
        let known = ["path", "name", "exclude", "storePath"];
        let source = Attributes::new(place, key.span(), table, &known, None)?;
        match (source.get("path"), source.get("storePath")) {
            (Some(_), None) => local_source(&source, Some(key.get_ref())),
            (None, Some(_)) => stored_source(&source),
            (Some(_), Some((other, _))) => {
                let problem = Problem::Conflict { place: source.place, one: "path", other: "storePath" };
                Err(Mistake::new(problem, other.span()))
            }
            (None, None) => {
                Err(source.missing("path").help("or 'storePath', for what is in the store already"))
            }
        }
    }

    /// Reads a table with a `path` within a value.
    pub(super) fn inline_source(
        &mut self,
        place: &str,
        table: &DeTable<'t>,
        at: Span,
    ) -> Result<usize, Mistake> {
        let known = ["path", "name", "exclude"];
        let place = format!("the source in {place}");
        let source = Attributes::new(place, at, table, &known, Some(VERBATIM))?;
        self.inline_sources.push(local_source(&source, None)?);
        Ok(self.inline_sources.len() - 1)
    }
}

/// A file or directory beside the recipe. Without `name`, it is named in the store for the last component of its path,
/// or, if that is no name, as it is in the recipe.
fn local_source(source: &Attributes<'_, '_>, key: Option<&str>) -> Result<SourceDeclaration, Mistake> {
    let path = source.required_string("path")?;
    let at = path.span();
    if path.get_ref().is_empty() {
        let what = source.what("path");
        let problem = Problem::WrongValue { what, expected: "a path", found: String::new() };
        return Err(Mistake::new(problem, at).help("the directory of the recipe itself is '.'"));
    }
    let last = path.get_ref().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = match (source.store_name()?, last, key) {
        (Some(name), ..) => name,
        (None, "" | "." | "..", Some(key)) => source.check_store_name(key, source.at.clone())?,
        (None, "" | "." | "..", None) => {
            return Err(source
                .missing("name")
                .help("a path that ends in no name needs a 'name' for the store"));
        }
        (None, last, _) => source
            .check_store_name(last, at.clone())
            .map_err(|mistake| mistake.help("give it a 'name' for the store"))?,
    };
    let patterns = source.strings("exclude")?.unwrap_or_default();
    let filter = Filter::new(patterns.iter().map(|pattern| pattern.get_ref().as_str())).map_err(
        |(index, error)| {
            let (pattern, at) = patterns.get(index).map_or((String::new(), source.at.clone()), |pattern| {
                (shown(pattern.get_ref()), pattern.span())
            });
            Mistake::new(Problem::Pattern { pattern, error }, at)
        },
    )?;
    let origin = SourceOrigin::Local { path: path.into_inner(), name, filter };
    Ok(SourceDeclaration { at, origin })
}

/// Something that is in a store already. Whether it is a path of the store that is used is seen when it is known which.
fn stored_source(source: &Attributes<'_, '_>) -> Result<SourceDeclaration, Mistake> {
    for key in ["name", "exclude"] {
        if let Some((found, _)) = source.get(key) {
            let problem = Problem::Conflict { place: source.place.clone(), one: "storePath", other: key };
            return Err(
                Mistake::new(problem, found.span()).help("what is in the store already is used as it is")
            );
        }
    }
    let path = source.required_string("storePath")?;
    Ok(SourceDeclaration { at: path.span(), origin: SourceOrigin::Store { path: path.into_inner() } })
}
