//! Reading the entries of a table by name and type, with messages that say whose they are.

use kiln_store_path::StorePathName;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::error::{Mistake, Problem};
use crate::source_text::{Span, shown};
use crate::suggestion::closest;

/// A table whose keys are attributes of something.
pub(super) struct Attributes<'e, 't> {
    /// Whose attributes they are, for messages.
    pub(super) place: String,
    /// Where that is.
    pub(super) at: Span,
    table: &'e DeTable<'t>,
}

impl<'e, 't> Attributes<'e, 't> {
    /// Takes a table that may have the keys in `known`. `advice` is what to say about another key that is like none of
    /// them.
    pub(super) fn new(
        place: String,
        at: Span,
        table: &'e DeTable<'t>,
        known: &[&str],
        advice: Option<&str>,
    ) -> Result<Self, Mistake> {
        let unknown = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        if let Some(key) = unknown.min_by_key(|key| key.span().start) {
            let suggestion = closest(key.get_ref(), known.iter().copied());
            let problem = Problem::UnknownAttribute { place, key: shown(key.get_ref()) };
            let mistake = Mistake::new(problem, key.span());
            return Err(match (suggestion, advice) {
                (Some(_), _) => mistake.did_you_mean(suggestion),
                (None, Some(advice)) => mistake.help(advice),
                (None, None) => mistake.help(format!("it can have {}", quoted_list(known))),
            });
        }
        Ok(Self { place, at, table })
    }

    /// The entry with this key.
    pub(super) fn get(&self, key: &str) -> Option<(&'e Spanned<DeString<'t>>, &'e Spanned<DeValue<'t>>)> {
        self.table.get_key_value(key)
    }

    /// A string that must be there.
    pub(super) fn required_string(&self, key: &'static str) -> Result<Spanned<String>, Mistake> {
        self.string(key)?.ok_or_else(|| self.missing(key))
    }

    /// That an attribute must be there and is not.
    pub(super) fn missing(&self, key: &'static str) -> Mistake {
        Mistake::new(Problem::MissingAttribute { place: self.place.clone(), key }, self.at.clone())
    }

    /// A string.
    pub(super) fn string(&self, key: &str) -> Result<Option<Spanned<String>>, Mistake> {
        self.get(key).map(|(_, value)| self.text(key, value)).transpose()
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &str) -> Result<Option<Vec<Spanned<String>>>, Mistake> {
        self.get(key).map(|(_, value)| self.texts(key, value, "an array of strings")).transpose()
    }

    /// A Boolean; false if it is not there.
    pub(super) fn boolean(&self, key: &str) -> Result<bool, Mistake> {
        match self.get(key) {
            None => Ok(false),
            Some((_, value)) => {
                value.get_ref().as_bool().ok_or_else(|| self.wrong_type(key, "true or false", value))
            }
        }
    }

    /// The name in the store that the attribute `name` gives.
    pub(super) fn store_name(&self) -> Result<Option<StorePathName>, Mistake> {
        let Some(name) = self.string("name")? else { return Ok(None) };
        let at = name.span();
        self.check_store_name(name.get_ref(), at).map(Some)
    }

    /// Checks a name in the store.
    pub(super) fn check_store_name(&self, name: &str, at: Span) -> Result<StorePathName, Mistake> {
        StorePathName::new(name)
            .map_err(|error| Mistake::new(Problem::InvalidStoreName { place: self.place.clone(), error }, at))
    }

    /// A value that must be a string.
    pub(super) fn text(&self, key: &str, value: &Spanned<DeValue<'t>>) -> Result<Spanned<String>, Mistake> {
        let text = value.get_ref().as_str().ok_or_else(|| self.wrong_type(key, "a string", value))?;
        self.check_nul(key, text, value.span())?;
        Ok(Spanned::new(value.span(), text.to_owned()))
    }

    /// A value that must be an array of strings.
    pub(super) fn texts(
        &self,
        key: &str,
        value: &Spanned<DeValue<'t>>,
        expected: &'static str,
    ) -> Result<Vec<Spanned<String>>, Mistake> {
        let items = value.get_ref().as_array().ok_or_else(|| self.wrong_type(key, expected, value))?;
        let text = |item: &Spanned<DeValue<'t>>| match item.get_ref() {
            DeValue::String(_) => self.text(key, item),
            _ => Err(self.wrong_type(key, expected, item)),
        };
        items.iter().map(text).collect()
    }

    /// A value that must be a table.
    pub(super) fn table(
        &self,
        key: &str,
        value: &'e Spanned<DeValue<'t>>,
    ) -> Result<&'e DeTable<'t>, Mistake> {
        value.get_ref().as_table().ok_or_else(|| self.wrong_type(key, "a table", value))
    }

    /// Refuses the character NUL, which TOML has and C strings do not.
    pub(super) fn check_nul(&self, key: &str, text: &str, at: Span) -> Result<(), Mistake> {
        if text.contains('\0') { Err(Mistake::new(Problem::Nul(self.what(key)), at)) } else { Ok(()) }
    }

    /// That a value has another type than it should.
    pub(super) fn wrong_type(
        &self,
        key: &str,
        expected: &'static str,
        value: &Spanned<DeValue<'t>>,
    ) -> Mistake {
        let problem =
            Problem::WrongType { what: self.what(key), expected, found: type_name(value.get_ref()) };
        Mistake::new(problem, value.span())
    }

    /// An attribute, for messages.
    pub(super) fn what(&self, key: &str) -> String {
        format!("'{}' of {}", shown(key), self.place)
    }
}

/// The type of a value, with its article.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a Boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// `'a', 'b' and 'c'`.
fn quoted_list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("'{one}'"),
        [all @ .., last] => {
            let all: Vec<String> = all.iter().map(|name| format!("'{name}'")).collect();
            format!("{} and '{last}'", all.join(", "))
        }
    }
}
