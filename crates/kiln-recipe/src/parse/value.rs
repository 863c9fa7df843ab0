//! Values of attributes: strings with references, numbers, arrays, tables.

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::attributes::Attributes;
use super::{MAX_DEPTH, Parser};
use crate::error::{Mistake, Problem};
use crate::interpolation::{Interpolation, InvalidReference, Reference, Segment, Template};
use crate::source_text::{Span, shown};
use crate::syntax::Value;

/// Keys that make a table stand for something.
const SPECIAL: [&str; 4] = ["source", "output", "path", "verbatim"];

/// How to write a table that has one of these keys and stands for itself.
pub(super) const VERBATIM: &str = "a table that stands for itself is written '{ verbatim = { … } }'";

/// How to read strings and tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// With references.
    Usual,
    /// As they are.
    Verbatim,
}

impl<'t> Parser<'t> {
    /// Reads a value. `key` is the attribute that has it, for messages.
    pub(super) fn value(
        &mut self,
        of: &Attributes<'_, 't>,
        key: &str,
        value: &Spanned<DeValue<'t>>,
    ) -> Result<Spanned<Value>, Mistake> {
        self.value_at(of, key, value, Reading::Usual, 0)
    }

    /// Recurses into arrays and tables, at most [`MAX_DEPTH`] deep.
    fn value_at(
        &mut self,
        of: &Attributes<'_, 't>,
        key: &str,
        value: &Spanned<DeValue<'t>>,
        reading: Reading,
        depth: usize,
    ) -> Result<Spanned<Value>, Mistake> {
        let at = value.span();
        if depth > MAX_DEPTH {
            return Err(Mistake::new(Problem::TooDeep(MAX_DEPTH), at));
        }
        let read = match value.get_ref() {
            DeValue::String(text) => {
                of.check_nul(key, text, at.clone())?;
                match reading {
                    Reading::Usual => Value::Text(self.template(text, &at)?),
                    Reading::Verbatim => Value::Text(Template::literal(text.to_string())),
                }
            }
            DeValue::Integer(integer) => Value::Integer(read_integer(integer, &at)?),
            DeValue::Float(float) => {
                let finite = float.as_str().parse().ok().filter(|number: &f64| number.is_finite());
                Value::Float(
                    finite
                        .ok_or_else(|| Mistake::new(Problem::NotFinite(shown(float.as_str())), at.clone()))?,
                )
            }
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(_) => {
                let mistake = of.wrong_type(key, "a string, a number, a Boolean, an array or a table", value);
                return Err(mistake.help("put the date between quotes"));
            }
            DeValue::Array(items) => Value::List(self.list(of, key, items, reading, depth)?),
            DeValue::Table(table) => return self.table(of, key, table, at, reading, depth),
        };
        Ok(Spanned::new(at, read))
    }

    fn list(
        &mut self,
        of: &Attributes<'_, 't>,
        key: &str,
        items: &DeArray<'t>,
        reading: Reading,
        depth: usize,
    ) -> Result<Vec<Spanned<Value>>, Mistake> {
        items.iter().map(|item| self.value_at(of, key, item, reading, depth + 1)).collect()
    }

    /// A table that stands for something, or for itself.
    fn table(
        &mut self,
        of: &Attributes<'_, 't>,
        key: &str,
        table: &DeTable<'t>,
        at: Span,
        reading: Reading,
        depth: usize,
    ) -> Result<Spanned<Value>, Mistake> {
        let special = SPECIAL.into_iter().find(|special| table.contains_key(*special));
        let Some(special) = special.filter(|_| reading == Reading::Usual) else {
            let mut fields = std::collections::BTreeMap::new();
            for (name, value) in table {
                of.check_nul(key, name.get_ref(), name.span())?;
                fields.insert(name.get_ref().to_string(), self.value_at(of, key, value, reading, depth + 1)?);
            }
            return Ok(Spanned::new(at, Value::Table(fields)));
        };
        let what = of.what(key);
        if special == "path" {
            let index = self.inline_source(&what, table, at.clone())?;
            return Ok(Spanned::new(at, Value::InlineSource(index)));
        }
        let place = format!("a reference in {what}");
        let reference = Attributes::new(place, at.clone(), table, &[special], Some(VERBATIM))?;
        if special == "verbatim" {
            let Some((_, value)) = reference.get(special) else { return Err(reference.missing("verbatim")) };
            return self.value_at(of, key, value, Reading::Verbatim, depth + 1);
        }
        let name = reference.string(special)?.ok_or_else(|| reference.missing("output"))?;
        let text =
            if special == "source" { format!("source.{}", name.get_ref()) } else { name.get_ref().clone() };
        let read = Reference::parse(&text).and_then(|read| match &read {
            Reference::Output { .. } if special == "output" => Ok(read),
            Reference::Source(_) if special == "source" => Ok(read),
            _ => Err(InvalidReference::Malformed(shown(name.get_ref()))),
        });
        let read = read.map_err(|_| {
            let expected = if special == "source" { "the name of a source" } else { "NAME or NAME.OUTPUT" };
            let what = reference.what(special);
            Mistake::new(Problem::WrongValue { what, expected, found: shown(name.get_ref()) }, name.span())
                .help(VERBATIM)
        })?;
        Ok(Spanned::new(name.span(), Value::Reference(read)))
    }

    /// Reads a string with references; their places become those in the file.
    fn template(&self, text: &str, at: &Span) -> Result<Template, Mistake> {
        let places = Places::new(self.text.text.get(at.clone()).unwrap_or_default(), text, at);
        match Template::parse(text) {
            Ok(mut template) => {
                for segment in &mut template.segments {
                    if let Segment::Interpolation(Interpolation { at, .. }) = segment {
                        *at = places.in_file(at);
                    }
                }
                Ok(template)
            }
            Err((error, span)) => {
                let place = places.in_file(&span);
                Err(Mistake::new(error, place).help("for the two characters '${' themselves, write '$${'"))
            }
        }
    }
}

fn read_integer(integer: &DeInteger<'_>, at: &Span) -> Result<i64, Mistake> {
    i64::from_str_radix(integer.as_str(), integer.radix())
        .map_err(|_| Mistake::new(Problem::IntegerRange(shown(integer.as_str())), at.clone()))
}

/// Finds a reference of a string's value in the file, where the string may be written with escapes. Every reference
/// begins with a dollar sign; the dollar signs of the value are those of its text in the same order, unless one is
/// written as an escape.
struct Places<'a> {
    at: &'a Span,
    written: Vec<usize>,
    meant: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(written: &str, meant: &str, at: &'a Span) -> Self {
        let dollars = |text: &str| text.match_indices('$').map(|(index, _)| index).collect();
        Self { at, written: dollars(written), meant: dollars(meant) }
    }

    /// The place of a part of the value that begins with a dollar sign; of the whole string if that is not clear.
    fn in_file(&self, part: &Span) -> Span {
        let index = self.meant.binary_search(&part.start).ok();
        let found = index.and_then(|index| self.written.get(index));
        match found.filter(|_| self.written.len() == self.meant.len()) {
            Some(offset) => {
                let start = self.at.start + offset;
                start..(start + part.len()).min(self.at.end)
            }
            None => self.at.clone(),
        }
    }
}
